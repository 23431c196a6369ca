"""Operations on the running service as a whole."""
