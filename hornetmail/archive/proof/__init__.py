"""The Merkle tree over everything archived (L2, rule 17)."""
