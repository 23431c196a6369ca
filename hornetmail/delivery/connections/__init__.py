"""Connections to other servers, kept, shared and counted (rules 2, 11)."""
