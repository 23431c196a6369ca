"""Packs are made, merged, checked, and read again."""
