"""What a pump is at.

Theory of operation. ``State`` says what the pump is at. While it is RESTING the next bytes make it DRIVING, and it takes events until the engine needs
more bytes (RESTING), an answer must be waited for (ANSWERING), its slice of the reactor's turn is used up (QUEUED; ``net.rota``), TLS is to start
(HANDSHAKE), or the conversation is over (CLOSING, and LOST when the connection is gone). Beside that there are two flags of flow: ``_full``, the peer does not
read what we send, so nothing is asked of the session; ``_held``, the engine holds enough, so nothing is read from the peer. The coroutine of an open answer
outlives CLOSING and, behind ``End``, LOST: the work on a message whose end we have seen is finished whether the client hears of it or not.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """What a pump is at."""

    HANDSHAKE = "TLS is being agreed on"
    RESTING = "the peer is to say something"
    DRIVING = "events go to the session"
    QUEUED = "others have their turn"
    ANSWERING = "the session works on an answer"
    CLOSING = "the last bytes are on their way"
    LOST = "the connection is gone"
