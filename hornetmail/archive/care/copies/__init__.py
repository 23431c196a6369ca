"""Backups, mirrors, and the drill that restores from them."""
