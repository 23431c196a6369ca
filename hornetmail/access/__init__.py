"""Log-in, throttle, web sessions and rights: one place for every door."""
