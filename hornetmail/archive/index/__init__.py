"""The encrypted database: metadata and full text, and the search in it (A2, L11, rules 13-15)."""
