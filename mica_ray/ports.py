"""A free port of this machine for a server that is about to start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that is free on all addresses of this machine.

    The port is not reserved. Start the server at once, before another process takes it.

    Raises:
        OSError: no port is free.
    """
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
