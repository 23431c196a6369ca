"""Which messages a command means by what is in them: SEARCH, SORT and THREAD. ``search`` asks, ``match`` judges, ``large`` reads what cannot be held."""
