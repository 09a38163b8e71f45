"""Makes the HTTP client of an endpoint, and names the proxy of the environment that it uses.

httpx reads the proxies from the same variables; what is found here is for messages.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import openai

from mica_ray.chat.endpoint import Endpoint
from mica_ray.chat.error_body import one_line
from mica_ray.secrets import redact, register_url

_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment sets."""

    variable: str
    """Name of the variable, as it is spelled in the environment."""
    address: str
    """Address without its login."""

    def __str__(self) -> str:
        """Return variable and address."""
        return f"{self.variable}={self.address}"


def make_client(endpoint: Endpoint, key: str) -> openai.AsyncOpenAI:
    """Return the client of an endpoint. Its connections obey the environment's proxies, SOCKS included.

    Args:
        endpoint: with the address.
        key: the checked API key.

    Raises:
        ValueError: the address, or a proxy of the environment, cannot be used.
    """
    parts = urlsplit(endpoint.url)
    try:
        _check_proxies()
        return openai.AsyncOpenAI(
            api_key=key,
            base_url=urlunsplit(parts._replace(query="")),
            default_query=dict(parse_qsl(parts.query)),
            max_retries=0,
            timeout=endpoint.timeout_seconds,
        )
    except Exception as error:
        # httpx raises errors of many types here: for a proxy's scheme, its port, or a missing package.
        variables = _proxy_settings()
        remedy = f"Correct the proxies in {variables}." if variables else "Check base_url."
        cause = one_line(str(error)).rstrip(".")
        raise ValueError(f"{endpoint}: the HTTP client cannot be made ({cause}). {remedy}") from None


def _check_proxies() -> None:
    """Register the passwords of the environment's proxies, and check what httpx does not check.

    Raises:
        ValueError: an address has no host, or a port that does not exist.
        Exception: of any type, where httpx cannot use a proxy.
    """
    for name, address in getproxies_environment().items():
        if name not in ("http", "https", "all"):
            continue
        register_url(address)
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.hostname is None or parts.port == 0:  # A port out of range raises.
            raise ValueError("a proxy needs a host and a port")
    if _proxy_settings():
        # The client proper, if a proxy stops it half-made, prints a traceback when it is collected in a loop.
        openai.DefaultAsyncHttpxClient(verify=False)


def key_headers(endpoint: Endpoint, key: str) -> dict[str, Any]:
    """Return the headers of a request that carry the key, if it is not sent as a bearer token."""
    if endpoint.api_key_header.lower() == "authorization":
        return {}
    return {"Authorization": openai.Omit(), endpoint.api_key_header: key}


def proxy_of(url: str) -> Proxy | None:
    """Return the proxy through which requests to an address go; None if they go directly."""
    parts = urlsplit(url)
    if parts.hostname and proxy_bypass(parts.hostname):
        return None
    addresses = getproxies_environment()
    for scheme in (parts.scheme, "all"):
        if address := addresses.get(scheme):
            name = f"{scheme}_proxy"
            # The lower-case name wins if both are set.
            return Proxy(name if os.environ.get(name) else name.upper(), redact(address))
    return None


def _proxy_settings() -> str:
    """Return the variables that set proxies, with their values; empty if there are none."""
    names = [name for name in os.environ if name.lower() in _PROXY_VARIABLES and os.environ[name]]
    return ", ".join(f"{name}={redact(os.environ[name])}" for name in sorted(names))
