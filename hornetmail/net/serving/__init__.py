"""Whom we serve: doors that listen, one pump a connection, and how connections share the reactor's turns."""
