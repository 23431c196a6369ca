"""The door to all operations: for scripts (HTTP, the description), the data directory's socket, pages' live events."""
