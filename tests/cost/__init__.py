"""What things cost: how much is read, hashed and waited for as an archive grows."""
