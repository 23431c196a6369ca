"""What a line consists of: names, dates, numbers, and the cursor that reads them (RFC 3501 section 9)."""
