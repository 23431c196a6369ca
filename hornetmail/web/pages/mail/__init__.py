"""Pages of mail that waits."""
