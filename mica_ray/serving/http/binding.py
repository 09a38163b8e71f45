"""The address a service listens on: other machines may reach it only with a key."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from mica_ray.serving.http.api_keys import KeyFile


def check_binding(host: str, keys_file: Path | None) -> None:
    """Check that a service that other machines can reach requires a key.

    Raises:
        ValueError: other machines can reach the address, and there is no valid key.
    """
    if keys_file is not None and not KeyFile(keys_file).has_valid_key():
        raise ValueError(
            f"{keys_file}: contains no valid key. "
            f"Create one with `mica serve-key add NAME --file {keys_file}`."
        )
    if keys_file is None and not is_loopback(host):
        raise ValueError(
            f"--host {host}: other machines could use the service without a key. "
            "Add --api-key-file FILE, or use --host 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
