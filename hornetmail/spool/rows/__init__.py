"""The rows that live in memory, in order, by domain, and when they are due."""
