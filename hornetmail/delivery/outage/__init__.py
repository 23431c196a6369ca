"""Whether a primary is there, what mode its domain is in, and what waits for it (C2, C7, L6)."""
