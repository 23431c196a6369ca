"""What clients ask: the commands as values, and how they are read."""
