"""What a process that reads strangers' files may do: compute, and answer. It opens no file, no connection and no other process, and has so much memory.

What it needs must be loaded before. Limits of the kernel (setrlimit(2)), so that whatever takes over the process cannot lift them, unless it runs as root.
"""

from __future__ import annotations

import ctypes
import os
import resource

_NICE = 10
_NO_NEW_PRIVILEGES = 38


def confine(memory: int) -> None:
    """From now on. ``memory``: bytes of address space that the process may have; more is a MemoryError. Raises OSError."""
    os.nice(_NICE)
    os.umask(0o777)
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        # No further descriptor: neither a file nor a socket can be opened.
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def allow_seconds(more: float) -> None:
    """So much time of the processor from now on; who takes more is ended by the kernel (SIGXCPU)."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + more) + 1, hard))
