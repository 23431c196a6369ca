"""What ``archive.db`` consists of: tables, the full text of each month, people, tokens; nobody here asks or fills it."""
