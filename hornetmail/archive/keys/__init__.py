"""The root key, the data keys that it wraps, and its paper (A2-A6, rule 22)."""
