"""One mailbox in memory: its folders, what arrives in them, and what is read of them."""
