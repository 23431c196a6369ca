"""Faults at every step: one layer through which all durable and outside steps go, counted, and failed one at a time (``docs/reliability.rst``)."""
