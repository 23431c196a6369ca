"""What everything stands on: configuration, keys, certificates, the log, DNS."""
