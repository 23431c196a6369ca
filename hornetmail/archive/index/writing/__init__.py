"""How mail comes into the index, is read again, and goes."""
