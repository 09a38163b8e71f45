"""The operator's settings: limits, keys, sessions. Plain values; serving/web_app.py reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mica_ray import checks

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Host names under which only this machine reaches the service."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of the web application. The defaults serve only this machine and store nothing."""

    keys_file: Path | None = None
    """File of hashed keys (http/api_keys.py); None serves without keys, which is allowed only on loopback."""
    requests_per_minute: int = 600
    """Limit for each key. Requests without a key, on loopback, are not limited."""
    max_body_bytes: int = 262_144
    max_messages: int = 256
    """Messages of one request, and of one session."""
    max_message_chars: int = 32_768
    max_reply_tokens: int = 1024
    """Upper limit of a client's max_tokens."""
    default_reply_tokens: int = 256
    default_temperature: float = 1.0
    max_in_flight: int = 256
    """Requests answered at the same time; more get 429 with Retry-After."""
    max_in_flight_per_key: int = 64
    """Of these, the requests of one key; its record in the key file may have another limit."""
    daily_tokens_per_key: int | None = None
    """Tokens of prompts and replies that one key may use a day (UTC); None: no limit."""
    request_seconds: float = 120.0
    """Deadline of a request, from its arrival to the last piece of its reply."""
    retry_after_seconds: int = 1
    cors_origins: tuple[str, ...] = ()
    """Other sites whose pages may call the service; none by default."""
    care_seconds: float = 5.0
    """Deadline of the care check of one request. After it the answer begins with the help line."""
    audit_file: Path | None = None
    """JSON lines, one a request, without any text; None sends them to the logger `mica_ray.audit`."""
    locale: str = "en"
    """Locale of the help line if the request names none."""
    sessions: bool = False
    """Whether /v1/support/sessions keeps dialogues."""
    session_seconds: float = 3600.0
    """Time from the last message of a session until it is deleted."""
    max_sessions: int = 1000
    """Sessions kept at the same time, over all keys."""
    max_sessions_per_key: int = 250
    """Of these, the sessions of one key."""
    sessions_file: Path | None = None
    """SQLite file, so that sessions survive a restart; None keeps sessions in memory."""

    votes_file: Path | None = None
    """JSON lines of the votes on two models, without any text; None disables votes."""

    def __post_init__(self) -> None:
        """Check the limits."""
        checks.at_least(
            1,
            requests_per_minute=self.requests_per_minute,
            max_body_bytes=self.max_body_bytes,
            max_messages=self.max_messages,
            max_message_chars=self.max_message_chars,
            max_reply_tokens=self.max_reply_tokens,
            default_reply_tokens=self.default_reply_tokens,
            max_in_flight=self.max_in_flight,
            max_in_flight_per_key=self.max_in_flight_per_key,
            max_sessions_per_key=self.max_sessions_per_key,
            daily_tokens_per_key=1 if self.daily_tokens_per_key is None else self.daily_tokens_per_key,
            retry_after_seconds=self.retry_after_seconds,
            max_sessions=self.max_sessions,
        )
        checks.above(
            0,
            request_seconds=self.request_seconds,
            session_seconds=self.session_seconds,
            care_seconds=self.care_seconds,
        )
        checks.within(0, 2, default_temperature=self.default_temperature)
        if self.default_reply_tokens > self.max_reply_tokens:
            raise ValueError(
                f"default_reply_tokens must be <= max_reply_tokens ({self.max_reply_tokens}), "
                f"got {self.default_reply_tokens}."
            )
        if self.sessions_file is not None and not self.sessions:
            raise ValueError(
                f"sessions_file is {self.sessions_file}, but sessions are off. Set sessions = true."
            )
