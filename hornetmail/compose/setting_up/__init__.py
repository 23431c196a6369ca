"""Work on a data directory while no service runs on it."""
