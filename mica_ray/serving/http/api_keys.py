"""The keys of the service: a JSON file of hashes, several at once, each to be revoked by its name.

A key has 256 random bits, so that one hash without a salt cannot be turned back by guessing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_PREFIX = "mica-"
_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as the file keeps it."""

    name: str
    sha256: str
    """Of the key, in hexadecimal."""
    created: int
    """Unix time, seconds."""
    revoked: int | None = None
    """When it was revoked; None while it is good."""

    def __post_init__(self) -> None:
        """Refuse what no `add` has written."""
        if not self.name or len(self.name) > _NAME_LENGTH or not self.name.isprintable():
            raise ValueError(f"name must have 1 to {_NAME_LENGTH} printable characters; got {self.name!r}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 of key {self.name!r} must have 64 hexadecimal digits")


class KeyFile:
    """Reads and writes the file; a service sees what another process has changed.

    Args:
        path: of the file; it need not exist before the first `add`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._records: tuple[KeyRecord, ...] = ()

    def records(self) -> tuple[KeyRecord, ...]:
        """Give all keys, revoked ones too, oldest first.

        Raises:
            ValueError: the file is none of keys.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            try:
                entries = json.loads(self.path.read_text())["keys"]
                self._records = tuple(KeyRecord(**entry) for entry in entries)
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.path}: not a file of keys ({type(error).__name__}: {error})"
                ) from error
            self._stamp = stamp
        return self._records

    def add(self, name: str) -> str:
        """Make a key and keep its hash; the key itself is shown this once.

        Raises:
            ValueError: a key of this name is there already, or it is no name.
        """
        records = self.records()
        if any(record.name == name for record in records):
            raise ValueError(f"{self.path}: has a key {name!r} already; choose another name")
        key = _PREFIX + secrets.token_urlsafe(32)
        self._write((*records, KeyRecord(name, _hash(key), int(time.time()))))
        return key

    def revoke(self, name: str) -> None:
        """Let a key open nothing any more.

        Raises:
            ValueError: there is no good key of this name.
        """
        records = self.records()
        if not any(record.name == name and record.revoked is None for record in records):
            raise ValueError(f"{self.path}: has no good key {name!r}; see `mica serve-key list`")
        now = int(time.time())
        self._write(tuple(replace(r, revoked=now) if r.name == name else r for r in records))

    def owner(self, key: str) -> str | None:
        """Give the name of a good key; None for a wrong or revoked one.

        Every hash is compared, in constant time: how long it takes tells nothing about which one is near.
        """
        asked, found = _hash(key), None
        for record in self.records():
            if hmac.compare_digest(record.sha256, asked) and record.revoked is None:
                found = record.name
        return found

    def _write(self, records: tuple[KeyRecord, ...]) -> None:
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"keys": [asdict(record) for record in records]}, indent=2) + "\n"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(scratch, self.path)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
