"""Domains, people, queue: what an administrator of mail asks for."""
