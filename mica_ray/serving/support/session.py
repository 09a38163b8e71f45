"""A support session as a value, and where sessions are kept: in memory, or in an SQLite file if asked for."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from mica_ray.types import State


@dataclass(frozen=True, slots=True)
class SupportTurn:
    """One message and its reply."""

    said: str
    reply: str
    state: State | None = None
    """P_t after the reply, points; None where nobody judged or the judge failed."""
    change: State | None = None
    """v_t, points; None as `state`."""
    error: str | None = None
    """Why a configured judge gave no state."""
    care: str | None = None
    """The kind of danger that the care check saw in the message."""


@dataclass(frozen=True, slots=True)
class SupportSession:
    """A conversation that the service keeps."""

    id: str
    owner: str
    """The name of the key that began it; no other sees it."""
    model: str
    locale: str
    created: float
    """Unix time, seconds, as `expires`."""
    expires: float
    turns: tuple[SupportTurn, ...] = ()


class SessionStore(Protocol):
    """Keeps sessions until they expire."""

    def put(self, session: SupportSession) -> bool:
        """Keep a session or its newer form; False when there is no room for one more."""
        ...

    def get(self, session_id: str) -> SupportSession | None:
        """Give a session that has not expired."""
        ...

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        ...

    def forget_expired(self) -> None:
        """Forget what has expired; called every minute, so that nothing outlives its time unread."""
        ...


class MemoryStore:
    """Sessions of this process; they end with it.

    Args:
        max_sessions: kept at once.
        clock: Unix time, seconds.
    """

    def __init__(self, max_sessions: int, *, clock: Callable[[], float] = time.time) -> None:
        self._max_sessions = max_sessions
        self._clock = clock
        self._sessions: dict[str, SupportSession] = {}

    def put(self, session: SupportSession) -> bool:
        """Keep a session or its newer form; False when there is no room for one more."""
        self.forget_expired()
        if session.id not in self._sessions and len(self._sessions) >= self._max_sessions:
            return False
        self._sessions[session.id] = session
        return True

    def get(self, session_id: str) -> SupportSession | None:
        """Give a session that has not expired."""
        session = self._sessions.get(session_id)
        return None if session is None or session.expires <= self._clock() else session

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        self._sessions.pop(session_id, None)

    def forget_expired(self) -> None:
        """Forget what has expired."""
        now = self._clock()
        for old in [old.id for old in self._sessions.values() if old.expires <= now]:
            del self._sessions[old]


class FileStore:
    """Sessions in an SQLite file that only its owner may read; what has expired is overwritten.

    Args:
        path: of the file.
        max_sessions: kept at once.
        clock: Unix time, seconds.
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
        self.forget_expired()

    def put(self, session: SupportSession) -> bool:
        """Keep a session or its newer form; False when there is no room for one more."""
        self.forget_expired()
        others = "SELECT COUNT(*) FROM session WHERE id != ?"
        if self._database.execute(others, (session.id,)).fetchone()[0] >= self._max_sessions:
            return False
        self._database.execute(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            (session.id, session.expires, json.dumps(asdict(session))),
        )
        return True

    def get(self, session_id: str) -> SupportSession | None:
        """Give a session that has not expired."""
        self.forget_expired()
        found = self._database.execute("SELECT content FROM session WHERE id = ?", (session_id,)).fetchone()
        if found is None:
            return None
        fields = json.loads(found[0])
        turns = tuple(_turn(turn) for turn in fields.pop("turns"))
        return SupportSession(**fields, turns=turns)

    def delete(self, session_id: str) -> None:
        """Forget a session."""
        self._database.execute("DELETE FROM session WHERE id = ?", (session_id,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def forget_expired(self) -> None:
        """Forget what has expired."""
        self._database.execute("DELETE FROM session WHERE expires <= ?", (self._clock(),))


def _turn(fields: dict[str, object]) -> SupportTurn:
    """Undo what JSON made of tuples."""
    points = {name: fields[name] for name in ("state", "change")}
    states = {name: tuple(value) if isinstance(value, list) else None for name, value in points.items()}
    return SupportTurn(**{**fields, **states})  # pyright: ignore[reportArgumentType]
