"""A support session as a value, and the stores of sessions: memory or an SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mica_ray.types import State


@dataclass(frozen=True, slots=True)
class SupportTurn:
    """One message and its reply."""

    said: str
    """The person's message."""
    reply: str
    """The model's words; empty if it returned none."""
    state: State | None = None
    """P_t after the reply, points; None without a judge, or if it failed."""
    change: State | None = None
    """v_t, points; None in the same cases as `state`."""
    error: str | None = None
    """Why the judge returned no state; None if it did, or without a judge."""
    care: str | None = None
    """The kind of danger that the care check found in the message."""
    help_line: str = ""
    """The operator's words before the reply; empty without a finding. No model and no judge sees them."""


@dataclass(frozen=True, slots=True)
class SupportSession:
    """A conversation stored by the service."""

    id: str
    owner: str
    """Name of the key that opened it; no other key can read it."""
    model: str
    locale: str
    created: float
    """Unix time, seconds, as `expires`."""
    expires: float
    turns: tuple[SupportTurn, ...] = ()


Change = Callable[[SupportSession], SupportSession]
"""Returns the changed session."""


class SessionStore(Protocol):
    """Stores sessions until they expire."""

    def put(self, session: SupportSession, *, max_of_owner: int | None = None) -> bool:
        """Store a new session; return False if the store is full, or its owner has this many."""
        ...

    def update(self, session_id: str, change: Change) -> SupportSession | None:
        """Change a stored session and return it; None if it was deleted.

        Reads and writes in one step, so that no change by another request or process is lost. The session is
        found even if it has expired since its reply began.
        """
        ...

    def get(self, session_id: str) -> SupportSession | None:
        """Return a session that has not expired; None if there is none."""
        ...

    def delete(self, session_id: str) -> None:
        """Delete a session."""
        ...

    def delete_expired(self) -> None:
        """Delete expired sessions; called regularly, so that none stays because nobody reads it."""
        ...


class MemoryStore:
    """Sessions in memory; they end with the process.

    Args:
        max_sessions: limit of sessions at the same time.
        clock: returns the Unix time, seconds.
    """

    def __init__(self, max_sessions: int, *, clock: Callable[[], float] = time.time) -> None:
        self._max_sessions = max_sessions
        self._clock = clock
        self._sessions: dict[str, SupportSession] = {}

    def put(self, session: SupportSession, *, max_of_owner: int | None = None) -> bool:
        """Store a new session; return False if the store is full, or its owner has this many."""
        self.delete_expired()
        num_own = sum(other.owner == session.owner for other in self._sessions.values())
        if len(self._sessions) >= self._max_sessions or (
            max_of_owner is not None and num_own >= max_of_owner
        ):
            return False
        self._sessions[session.id] = session
        return True

    def update(self, session_id: str, change: Change) -> SupportSession | None:
        """Change a stored session and return it; None if it was deleted."""
        session = self._sessions.get(session_id)
        if session is None:
            return None
        self._sessions[session_id] = changed = change(session)
        return changed

    def get(self, session_id: str) -> SupportSession | None:
        """Return a session that has not expired; None if there is none."""
        session = self._sessions.get(session_id)
        return None if session is None or session.expires <= self._clock() else session

    def delete(self, session_id: str) -> None:
        """Delete a session."""
        self._sessions.pop(session_id, None)

    def delete_expired(self) -> None:
        """Delete expired sessions."""
        now = self._clock()
        for old in [old.id for old in self._sessions.values() if old.expires <= now]:
            del self._sessions[old]


class FileStore:
    """Sessions in an SQLite file that only its owner may read; deleted content is overwritten.

    Args:
        path: of the file.
        max_sessions: limit of sessions at the same time.
        clock: returns the Unix time, seconds.
    """

    def __init__(self, path: Path, max_sessions: int, *, clock: Callable[[], float] = time.time) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._max_sessions = max_sessions
        self._clock = clock
        self._database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA secure_delete = ON")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS session "
            "(id TEXT PRIMARY KEY, expires REAL NOT NULL, content TEXT NOT NULL)"
        )
        self.delete_expired()

    def put(self, session: SupportSession, *, max_of_owner: int | None = None) -> bool:
        """Store a new session; return False if the store is full, or its owner has this many."""
        self.delete_expired()
        with self._transaction():
            owners = [content["owner"] for content in self._contents()]
            is_at_limit = max_of_owner is not None and owners.count(session.owner) >= max_of_owner
            if len(owners) >= self._max_sessions or is_at_limit:
                return False
            self._write(session)
        return True

    def update(self, session_id: str, change: Change) -> SupportSession | None:
        """Change a stored session and return it; None if it was deleted."""
        with self._transaction():
            session = self._read(session_id)
            if session is None:
                return None
            changed = change(session)
            self._write(changed)
        return changed

    def get(self, session_id: str) -> SupportSession | None:
        """Return a session that has not expired; None if there is none."""
        session = self._read(session_id)
        return None if session is None or session.expires <= self._clock() else session

    def delete(self, session_id: str) -> None:
        """Delete a session."""
        self._database.execute("DELETE FROM session WHERE id = ?", (session_id,))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def delete_expired(self) -> None:
        """Delete expired sessions."""
        self._database.execute("DELETE FROM session WHERE expires <= ?", (self._clock(),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the file's write lock: during a redeployment two processes use it."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _contents(self) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._database.execute("SELECT content FROM session")]

    def _read(self, session_id: str) -> SupportSession | None:
        found = self._database.execute("SELECT content FROM session WHERE id = ?", (session_id,)).fetchone()
        if found is None:
            return None
        fields = json.loads(found[0])
        turns = tuple(_turn(turn) for turn in fields.pop("turns"))
        return SupportSession(**fields, turns=turns)

    def _write(self, session: SupportSession) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            (session.id, session.expires, json.dumps(asdict(session))),
        )


def _turn(fields: dict[str, object]) -> SupportTurn:
    """Restore the tuples that JSON stored as lists."""
    points = {name: fields[name] for name in ("state", "change")}
    states = {name: tuple(value) if isinstance(value, list) else None for name, value in points.items()}
    return SupportTurn(**{**fields, **states})  # pyright: ignore[reportArgumentType]
