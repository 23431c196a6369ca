"""Whom we ask by mail protocols: hosts dialled, and conversations as a client."""
