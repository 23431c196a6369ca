"""What is asked of the index: search, guidance, folders of mail programs, whatever a hold matches."""
