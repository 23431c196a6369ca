"""Whether a primary is there: verdicts, signs of an outage, the mode machine."""
