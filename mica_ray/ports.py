"""A port of this machine for a server that is about to start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Give a port on which nobody listens now, on any of this machine's addresses.

    It stays free only until somebody takes it: start the server at once.

    Raises:
        OSError: none is left.
    """
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
