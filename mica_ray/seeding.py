"""Seeds derived by name, so that no random choice depends on the order in which tasks happen to run."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Give a 31-bit seed that is a pure function of its parts.

    Args:
        parts: what the randomness is for, from general to particular: run seed, purpose, step, sample, turn.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") & 0x7FFF_FFFF
