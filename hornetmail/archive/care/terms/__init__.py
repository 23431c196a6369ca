"""How long mail is kept, and what beats that."""
