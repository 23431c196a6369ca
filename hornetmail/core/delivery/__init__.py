"""What waits to be delivered, which way it goes, and when again."""
