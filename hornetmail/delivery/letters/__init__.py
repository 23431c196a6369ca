"""All mail that we write or send again ourselves: bounces, notices, redelivered mail (rules 6, 16)."""
