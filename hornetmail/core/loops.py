"""Mail loops, read off a message's own trace headers (rule 7, RFC 5321 section 6.3)."""

from __future__ import annotations

from hornetmail.core.address import key_of

MOST_HOPS = 25
"""More Received lines than these: 554 5.4.6."""


def received_lines(head: bytes) -> list[bytes]:
    """The values of the Received fields in ``head`` (the start of a message), unfolded, top first."""
    found: list[bytes] = []
    collecting = False
    for line in head.split(b"\n"):
        bare = line.rstrip(b"\r")
        if not bare:
            break
        if bare[:1] in (b" ", b"\t"):
            if collecting:
                found[-1] += b" " + bare.strip()
            continue
        collecting = bare[:9].lower() == b"received:"
        if collecting:
            found.append(bare[9:].strip())
    return found


def hops(head: bytes) -> int:
    """How many servers the message went through."""
    return len(received_lines(head))


def been_here(head: bytes, hostname: str, recipient: str) -> bool:
    """Whether a Received line says that ``hostname`` took this message in for ``recipient`` before."""
    ours = hostname.casefold()
    wanted = key_of(recipient)
    for line in received_lines(head):
        words = line.decode("utf-8", "replace").split(";")[0].split()
        lowered = [word.casefold() for word in words]
        by = [words[at + 1] for at, word in enumerate(lowered[:-1]) if word == "by"]
        addressed = [words[at + 1] for at, word in enumerate(lowered[:-1]) if word == "for"]
        if any(name.casefold() == ours for name in by) and any(key_of(name.strip("<>")) == wanted for name in addressed):
            return True
    return False
