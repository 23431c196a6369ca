"""What somebody typed, as a query, and the query as SQL."""
