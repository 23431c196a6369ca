"""Time stamps, evidence, root keys."""
