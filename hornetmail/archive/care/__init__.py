"""What keeps an archive whole over the years: sealing, retention, verification, rebuilding, the root key (rules 17-23)."""
