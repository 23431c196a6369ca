"""What people did with mail during an outage goes to the primary over IMAP (L13): read mail of INBOX as it stands there, and everything in their folders."""
