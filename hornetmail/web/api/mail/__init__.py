"""Operations on domains, the queue and mail that waits."""
