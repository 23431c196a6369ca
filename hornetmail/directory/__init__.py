"""Domains, mailboxes, roles and credentials: ``control.db`` is the source, a versioned snapshot in memory is what everybody reads."""
