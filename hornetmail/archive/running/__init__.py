"""What a running archive does: it opens, takes mail in, gives it out, looks after itself, and makes its index anew."""
