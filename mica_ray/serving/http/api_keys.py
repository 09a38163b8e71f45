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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from mica_ray.files import read_json_object

_PREFIX = "mica-"
_NAME_LENGTH = 64
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

    def __post_init__(self) -> None:
        """Check the name and the form of the hash."""
        if not self.name or len(self.name) > _NAME_LENGTH or not self.name.isprintable():
            raise ValueError(f"name must have 1 to {_NAME_LENGTH} printable characters, got {self.name!r}.")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 of key {self.name!r} must have 64 hexadecimal digits.")


class KeyFile:
    """Reads and writes the file. A running service sees changes made by another process.

    Args:
        path: of the file; the first `add` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
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
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            try:
                entries = read_json_object(self.path)["keys"]
                self._records = tuple(KeyRecord(**entry) for entry in entries)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.path} is not a key file ({type(error).__name__}: {error}). "
                    "Restore the file, or name another one with --file."
                ) from error
            self._stamp = stamp
        return self._records

    def add(self, name: str) -> str:
        """Create a key, store its hash and return the key, which cannot be recovered later.

        Raises:
            ValueError: the name is taken or invalid.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            records = self.records()
            if any(record.name == name for record in records):
                raise ValueError(f"{self.path} already has a key {name!r}. Choose another name.")
            key = _PREFIX + secrets.token_urlsafe(32)
            self._write((*records, KeyRecord(name, _hash(key), int(time.time()))))
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
            now = int(time.time())
            self._write(tuple(replace(r, revoked=now) if r.name == name else r for r in records))

    def owner(self, key: str) -> str | None:
        """Return the name of a valid key; None for a wrong or revoked one.

        Compares every hash in constant time, so that the response time reveals nothing about the keys.
        """
        digest, found = _hash(key), None
        for record in self.records():
            if hmac.compare_digest(record.sha256, digest) and record.revoked is None:
                found = record.name
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
