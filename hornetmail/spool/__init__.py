"""The queue: a journal with an index.

``DIR/journal/*.log`` (``disk.records``) is the truth: every transition is a record there, with the body of its message if that is
short. ``DIR/bodies/`` holds the long ones. The rows of live messages are kept in memory: some messages whole, the others packed to about 300 bytes,
their envelopes on disk (``recall``). ``queue.db`` is a copy of all that up to a checkpoint, so that a start replays only what came after. Losing
``queue.db`` costs one full replay.

Invariants: a body is durable before its record, a record before anybody is told; transitions apply in the order of the
journal; each record holds absolute values, so that applying it to a newer state and going on from there ends the same.
"""
