"""The listeners, each with what it needs."""
