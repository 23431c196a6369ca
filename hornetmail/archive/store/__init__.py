"""Records, their parts, the staging area and the packs on the media (rules 12, 20, 21)."""
