"""The API keys of the service: a JSON file of hashes; each key is revoked by its name.

A key has 256 random bits, so a hash without salt cannot be reversed by guessing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from mica_ray.files import read_json_object

KeyScope = Literal["chat", "support", "metrics"]
"""What a key is for: OpenAI's routes and votes, sessions, or /metrics."""
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
DEFAULT_SCOPES: tuple[KeyScope, ...] = ("chat", "support")
"""Of a new key. A key of an older file, without scopes, has all of them."""
_PREFIX = "mica-"
_NAME_LENGTH = 64
_RACY_SECONDS = 2.0
"""A file changed in the last seconds is read again: two changes within one tick have equal times."""
_LOCK_SECONDS = 10.0
"""Longest wait for another process that changes the file, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as stored in the file."""

    name: str
    sha256: str
    """Hash of the key, in hexadecimal."""
    created: int
    """Unix time, seconds."""
    revoked: int | None = None
    """Unix time when it was revoked, seconds; None while it is valid."""
    expires: int | None = None
    """Unix time from which on it is refused, seconds; None: never."""
    scopes: tuple[KeyScope, ...] = SCOPES
    max_in_flight: int | None = None
    """Requests at the same time; None: `max_in_flight_per_key` of the service."""
    max_sessions: int | None = None
    """Sessions at the same time; None: `max_sessions_per_key` of the service."""
    daily_tokens: int | None = None
    """Tokens of prompts and replies a day; None: `daily_tokens_per_key` of the service."""

    def __post_init__(self) -> None:
        """Check the name, the form of the hash, the scopes and the limits."""
        if not self.name or len(self.name) > _NAME_LENGTH or not self.name.isprintable():
            raise ValueError(f"name must have 1 to {_NAME_LENGTH} printable characters, got {self.name!r}.")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 of key {self.name!r} must have 64 hexadecimal digits.")
        for scope in self.scopes:
            if scope not in SCOPES:
                raise ValueError(
                    f"scopes of key {self.name!r} must be among {', '.join(SCOPES)}, got {scope!r}."
                )
        for field in ("created", "revoked", "expires"):
            seconds = getattr(self, field)
            if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
                raise ValueError(f"{field} of key {self.name!r} must be a Unix time, got {seconds!r}.")
        for field in ("max_in_flight", "max_sessions", "daily_tokens"):
            limit = getattr(self, field)
            if limit is not None and limit < 1:
                raise ValueError(f"{field} of key {self.name!r} must be >= 1, got {limit}.")

    def is_valid(self, now: float) -> bool:
        """Whether the key is neither revoked nor expired at a Unix time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What the operator decides about a new key."""

    expires: int | None = None
    """As in `KeyRecord`, like the other fields."""
    scopes: tuple[KeyScope, ...] = DEFAULT_SCOPES
    max_in_flight: int | None = None
    max_sessions: int | None = None
    daily_tokens: int | None = None


class KeyFile:
    """Reads and writes the file. A running service sees changes made by another process.

    Args:
        path: of the file; the first `add` creates it.
        clock: returns the Unix time, seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._records: tuple[KeyRecord, ...] = ()

    def records(self) -> tuple[KeyRecord, ...]:
        """Return all keys, revoked ones too, oldest first.

        Raises:
            ValueError: the file is not a key file.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        is_fresh = self._clock() - status.st_mtime < _RACY_SECONDS
        if stamp != self._stamp or is_fresh:
            try:
                entries = read_json_object(self.path)["keys"]
                self._records = tuple(_record(entry) for entry in entries)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.path} is not a key file ({type(error).__name__}: {error}). "
                    "Restore the file, or name another one with --file."
                ) from error
            self._stamp = stamp
        return self._records

    def add(self, name: str, terms: KeyTerms = KeyTerms()) -> str:  # noqa: B008
        """Create a key, store its hash and return the key, which cannot be recovered later.

        Args:
            name: of its owner.
            terms: its scopes, its limits and when it expires.

        Raises:
            ValueError: the name is taken or invalid.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            records = self.records()
            if any(record.name == name for record in records):
                raise ValueError(f"{self.path} already has a key {name!r}. Choose another name.")
            key = _PREFIX + secrets.token_urlsafe(32)
            made = KeyRecord(name, _hash(key), int(self._clock()), **asdict(terms))
            self._write((*records, made))
        return key

    def revoke(self, name: str) -> None:
        """Revoke a key; the service rejects it from now on.

        Raises:
            ValueError: there is no valid key of this name.
        """
        if not self.path.is_file():
            raise ValueError(f"{self.path} does not exist. Name the file that `mica serve-key add` wrote.")
        with self._locked():
            records = self.records()
            if not any(record.name == name and record.revoked is None for record in records):
                raise ValueError(
                    f"{self.path} has no valid key {name!r}. "
                    f"List the keys with `mica serve-key list --file {self.path}`."
                )
            now = int(self._clock())
            self._write(tuple(replace(r, revoked=now) if r.name == name else r for r in records))

    def has_valid_key(self) -> bool:
        """Whether a key is neither revoked nor expired."""
        return any(record.is_valid(self._clock()) for record in self.records())

    def find(self, key: str) -> KeyRecord | None:
        """Return the record of a valid key; None for a wrong, revoked or expired one.

        Compares every hash in constant time, so that the response time reveals nothing about the keys.
        """
        digest, now, found = _hash(key), self._clock(), None
        for record in self.records():
            if hmac.compare_digest(record.sha256, digest) and record.is_valid(now):
                found = record
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file's lock, so that two commands at the same time lose no key."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            with FileLock(lock, timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise ValueError(
                f"{self.path} was locked by another process for {_LOCK_SECONDS:g} s. Try again."
            ) from error

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        """Replace the file.

        Not by `files.write_whole`: here only the owner may read the file, from its first byte on.
        """
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        text = json.dumps({"keys": [asdict(record) for record in records]}, indent=2) + "\n"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(scratch, self.path)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _record(entry: Mapping[str, object]) -> KeyRecord:
    scopes = entry.get("scopes", SCOPES)
    if not isinstance(scopes, list | tuple):
        raise TypeError(f"scopes must be a list, got {type(scopes).__name__}")
    return KeyRecord(**{**entry, "scopes": tuple(scopes)})  # pyright: ignore[reportArgumentType]
