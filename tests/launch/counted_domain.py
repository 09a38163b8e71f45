"""A domain that counts how often it is loaded."""

from __future__ import annotations

from mica_ray.dialogue.domain import Domain
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT

loads: list[str] = []
"""Names of the domains loaded from this module so far."""


def __getattr__(name: str) -> Domain:
    """Return the embedded domain under the name COUNTED, and count the access."""
    if name != "COUNTED":
        raise AttributeError(name)
    loads.append(name)
    return EMOTIONAL_SUPPORT
