"""Pages of people, domains and the own account."""
