"""The ``hornetmail`` command: a client of the API over the socket in the data directory, but for what works offline."""
