"""One module a kind of file: bytes in, words into a ``Gathered``. Pure; each raises ``Unreadable`` with a reason for people, or ends early where ``Gathered`` is full."""
