"""The server's side of IMAP: the engine, its states, and what compresses beneath it."""
