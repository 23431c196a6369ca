"""One delivery attempt: claimed, carried out, recorded (C3, C20, rules 1-3, 8b)."""
