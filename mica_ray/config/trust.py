"""What a stored config may do before its owner is known: name our own code, and send no API key.

A run folder that somebody else made is data. `--trust` makes it code. config/references.py and
launch/world.py ask here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

_PACKAGE = "mica_ray"
_SOURCE: ContextVar[Path | None] = ContextVar("untrusted_source", default=None)
_is_given = False
_DISTRUSTED: dict[tuple[str, str], Path] = {}
"""Address and name of the key's variable to the config that names both."""


def give_trust() -> None:
    """Trust every stored config that this process reads: the option `--trust`."""
    global _is_given
    _is_given = True
    _DISTRUSTED.clear()


def withdraw_trust() -> None:
    """Return to the default, in which stored configs are not trusted."""
    global _is_given
    _is_given = False
    _DISTRUSTED.clear()


def is_trust_given() -> bool:
    """Whether `give_trust` was called."""
    return _is_given


@contextmanager
def untrusted(source: Path) -> Iterator[None]:
    """Refuse references to code outside of mica_ray until the block ends.

    Args:
        source: the config that is being read, for the error message.
    """
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


def foreign_reference_problem(reference: str) -> str | None:
    """Return why an untrusted config must not use a reference; None if it may, or nothing is untrusted."""
    source = _SOURCE.get()
    place = reference.rpartition(":")[0]
    is_own = place == _PACKAGE or (place.startswith(f"{_PACKAGE}.") and place.replace(".", "").isidentifier())
    if source is None or (is_own and not place.endswith(".py")):
        return None
    return (
        f"{source} names {reference}, which is code outside of mica_ray. Read that code, and add --trust if "
        "you trust it."
    )


def foreign_object_problem(reference: str, found: object) -> str | None:
    """Return why an untrusted config must not use what a reference of ours leads to, such as an import."""
    source = _SOURCE.get()
    module = str(getattr(found, "__module__", ""))
    if source is None or module == _PACKAGE or module.startswith(f"{_PACKAGE}."):
        return None
    return f"{source} names {reference}, which is not defined in mica_ray. Add --trust if you trust it."


def distrust_key(base_url: str, api_key_env: str, source: Path) -> None:
    """Send no key to an address, because an untrusted config names both.

    An address of this machine may get it.
    """
    if not _is_local(base_url):
        _DISTRUSTED[base_url, api_key_env] = source


def key_problem(base_url: str, api_key_env: str) -> str | None:
    """Return why the key must not be sent to an address; None if it may."""
    source = _DISTRUSTED.get((base_url, api_key_env))
    if source is None:
        return None
    return (
        f"{source} would send the key of {api_key_env} to {base_url}. Add --trust if you trust that address, "
        "or replace the role with --set."
    )


def _is_local(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
