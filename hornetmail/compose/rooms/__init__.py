"""The rooms of the service, joined."""
