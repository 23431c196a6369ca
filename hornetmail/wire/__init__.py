"""Protocol engines, sans-IO and pure: bytes in, events out, one shape for all (``engine``), one frame for the servers' (``server``)."""
