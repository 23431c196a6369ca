"""What the rooms promise each other.

Rooms that lie side by side know one another only through these interfaces, the bus and ``compose``. Methods marked ``async`` may be
awaited from the reactor thread only; the others answer at once from memory. Values are frozen structs of ``hornetmail.core``.
"""
