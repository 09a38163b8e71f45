"""A free port can be listened on, and one that is taken is not given."""

from __future__ import annotations

import socket

from mica_ray.ports import free_port


def test_a_port_that_is_given_can_be_listened_on_and_is_not_given_again() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port := free_port()))
        listener.listen()
        assert all(free_port() != port for _ in range(50))
