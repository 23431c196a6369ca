"""Files and names of a Maildir, and what was seen in it last."""
