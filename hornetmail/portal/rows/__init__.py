"""What ``portal.db`` holds, and what it is asked and told."""
