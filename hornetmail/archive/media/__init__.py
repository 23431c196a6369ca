"""Places where packs lie (A7-A16)."""
