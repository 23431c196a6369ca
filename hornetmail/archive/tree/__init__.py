"""The archive in mail programs (L1, rule 27): a read-only tree of folders by year and month, received and sent."""
