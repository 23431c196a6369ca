"""Changes that tests must notice (``make mutants``): how many of them do, and which do not."""
