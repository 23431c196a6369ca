"""Operations on the archive."""
