"""Operations on people and what they may do."""
