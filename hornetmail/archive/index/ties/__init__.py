"""What a mail is tied to: other forms of it, its leaves, the parts it uses, holds and rules of retention."""
