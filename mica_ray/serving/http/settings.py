"""What an operator can set of the service: bounds, keys, sessions. Plain values, read by http_app.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""The hosts under which only this machine reaches the service."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Bounds of the web application. The defaults serve this machine alone and store nothing."""

    keys_file: Path | None = None
    """Hashed keys (api_keys.py); None serves without keys, which only loopback may."""
    requests_per_minute: int = 600
    """Of one key. Requests without a key, on loopback, are not counted."""
    max_body_bytes: int = 262_144
    max_messages: int = 256
    """Messages of one request, and of one session."""
    max_message_chars: int = 32_768
    max_reply_tokens: int = 1024
    """The most a client may ask for."""
    default_reply_tokens: int = 256
    default_temperature: float = 1.0
    max_in_flight: int = 256
    """Requests being answered; more get 429 with Retry-After."""
    request_seconds: float = 120.0
    """From the request's arrival to the last piece of its reply."""
    retry_after_seconds: int = 1
    cors_origins: tuple[str, ...] = ()
    """Other sites whose pages may call the service; none by default."""
    locale: str = "en"
    """Of the help line, where the request names none."""
    sessions: bool = False
    """Whether /v1/support/sessions keeps dialogues."""
    session_seconds: float = 3600.0
    """A session is forgotten so long after its last message."""
    max_sessions: int = 1000
    """Kept at once, over all keys."""
    sessions_file: Path | None = None
    """An SQLite file that outlives the process; None keeps sessions in memory."""

    votes_file: Path | None = None
    """JSON lines of votes on two models side by side, without text; None keeps none."""

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing could be served."""
        for name in (
            "requests_per_minute",
            "max_body_bytes",
            "max_messages",
            "max_message_chars",
            "max_reply_tokens",
            "default_reply_tokens",
            "max_in_flight",
            "retry_after_seconds",
            "max_sessions",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("request_seconds", "session_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
        if not 0 <= self.default_temperature <= 2:
            raise ValueError(f"default_temperature must be in [0, 2]; got {self.default_temperature}")
        if self.default_reply_tokens > self.max_reply_tokens:
            raise ValueError(
                f"default_reply_tokens must be <= max_reply_tokens = {self.max_reply_tokens}; "
                f"got {self.default_reply_tokens}"
            )
        if self.sessions_file is not None and not self.sessions:
            raise ValueError(f"sessions_file = {self.sessions_file} needs sessions = true")
