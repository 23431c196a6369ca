"""Pages of the running service."""
