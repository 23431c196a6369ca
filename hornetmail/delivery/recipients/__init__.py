"""Which recipients exist (C13, C14, L7, rule 4)."""
