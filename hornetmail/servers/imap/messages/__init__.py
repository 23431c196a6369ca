"""What is done to messages: read, flagged, copied, removed, brought."""
