"""Values and decisions of mail, pure: no I/O, no clock, no randomness of its own."""
