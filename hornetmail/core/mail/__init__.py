"""What a message carries and what is answered: addresses, envelopes, replies, notices, SPF."""
