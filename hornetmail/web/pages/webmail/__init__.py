"""Webmail: the visitor's own folders, read and written."""
