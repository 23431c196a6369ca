"""What we answer: status lines, strings, envelopes and structures."""
