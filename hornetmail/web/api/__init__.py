"""One API for panel, command line and scripts: operations, the door to them, and their HTTP face."""
