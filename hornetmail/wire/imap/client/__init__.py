"""The client's side of IMAP."""
