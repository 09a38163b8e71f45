"""Address, limits and prices of a served model: the part of a config that describes an endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from mica_ray.checks import above, at_least
from mica_ray.secrets import has_login, is_secret_name, looks_like_key, redact

OPENAI_URL: Final = "https://api.openai.com/v1"

StructuredOutput = Literal["json_schema", "json_object", "none"]

SHAPED_FIELDS: Final = (
    "temperature", "top_p", "presence_penalty", "max_tokens", "max_completion_tokens", "seed", "stop",
    "response_format",
)  # fmt: skip
"""Fields of a request that a config can leave out or rename."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, limits and prices of a served model."""

    model: str
    base_url: str | None = None
    """Address up to and including "/v1"; None for OpenAI's own. A query such as "?api-version=1" is kept."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that contains the key; launch/world.py reads it."""
    api_key_header: str = "Authorization"
    """Header that carries the key: "Authorization" (as Bearer), or for example "api-key"."""
    timeout_seconds: float = 60.0
    """Timeout of one attempt."""
    deadline_seconds: float = 180.0
    """Deadline of one answer with all its attempts and pauses, from the moment a slot is free."""
    attempts: int = 4
    max_concurrency: int | None = None
    """Maximum number of calls in flight; further calls wait for a slot. None: one for each dialogue of a
    training step, and at least 16. This limit and those per minute hold per process: divide an endpoint's
    quota by the number of sweep trials that run at once."""
    first_pause_seconds: float = 1.0
    """Upper limit of the first random pause; it doubles with every attempt."""
    longest_pause_seconds: float = 20.0
    """Upper limit of every pause, including one that the endpoint requests by Retry-After."""
    requests_per_minute: float | None = None
    """Limit, evenly spaced, retries included; None for no limit."""
    tokens_per_minute: float | None = None
    """Limit on prompts and answers, estimated before a call and corrected after it; None for no limit."""
    breaker_failures: int = 8
    """Consecutive server failures, timeouts included, after which calls pause."""
    breaker_pause_seconds: float = 5.0
    """Pause until one call probes the endpoint; doubles with each failed probe."""
    breaker_longest_pause_seconds: float = 60.0
    price_per_million_prompt_tokens: float = 0.0
    """USD, for the cost ledger."""
    price_per_million_completion_tokens: float = 0.0
    """USD, for the cost ledger; reasoning is billed too."""
    structured_output: StructuredOutput = "json_schema"
    """What the endpoint can enforce if a schema is passed."""
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The endpoint's name for the maximum number of reply tokens."""
    temperature: float | None = None
    """Sent with every request instead of the caller's. None: the caller's, which is not sent if it is 1."""
    omit: tuple[str, ...] = ()
    """Fields that are never sent because the endpoint rejects them, such as ("seed", "top_p")."""
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    """The endpoint's names of fields, such as {"seed": "random_seed"}."""
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])
    """Added to every request unchanged, e.g. {"chat_template_kwargs": {"enable_thinking": False}}."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.model:
            raise ValueError(f"model must be the name of a model, got {self.model!r}.")
        self._check_address()
        self._check_fields()
        above(
            0,
            timeout_seconds=self.timeout_seconds,
            deadline_seconds=self.deadline_seconds,
            first_pause_seconds=self.first_pause_seconds,
            longest_pause_seconds=self.longest_pause_seconds,
            breaker_pause_seconds=self.breaker_pause_seconds,
            breaker_longest_pause_seconds=self.breaker_longest_pause_seconds,
        )
        if self.requests_per_minute is not None:
            above(0, requests_per_minute=self.requests_per_minute)
        if self.tokens_per_minute is not None:
            above(0, tokens_per_minute=self.tokens_per_minute)
        at_least(
            1,
            attempts=self.attempts,
            max_concurrency=1 if self.max_concurrency is None else self.max_concurrency,
            breaker_failures=self.breaker_failures,
        )
        at_least(
            0,
            price_per_million_prompt_tokens=self.price_per_million_prompt_tokens,
            price_per_million_completion_tokens=self.price_per_million_completion_tokens,
        )

    def _check_address(self) -> None:
        """Check address and key variable. The config is stored, so neither may contain a key."""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env) or looks_like_key(self.api_key_env):
            raise ValueError(
                "api_key_env must be the name of an environment variable. Its value is not shown: it may be "
                "a key. Export the key as a variable, and write the variable's name."
            )
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.api_key_header):
            raise ValueError(f"api_key_header must be the name of a header, got {self.api_key_header!r}.")
        if self.base_url is None:
            return
        problem = "must be an address such as http://HOST:PORT/v1"
        if not re.fullmatch(r"https?://[^\s/?#]+[!-~]*", self.base_url):
            raise ValueError(f"base_url {problem}, got {redact(self.base_url)!r}.")
        parts = urlsplit(self.base_url)
        if has_login(self.base_url) or any(is_secret_name(name) for name, _ in parse_qsl(parts.query)):
            raise ValueError(
                f"base_url must not contain a login or key, got one for {parts.hostname}. The config is "
                "stored with the run: export the key as a variable, and set api_key_env to its name."
            )
        if parts.path.rstrip("/").endswith("/chat/completions"):
            raise ValueError(f"base_url must end before /chat/completions, got {self.base_url!r}.")

    def _check_fields(self) -> None:
        """Check the temperature, and the names of fields that are added, left out or renamed."""
        if self.temperature is not None:
            at_least(0, temperature=self.temperature)
        for name, value in self.extra_body.items():
            if isinstance(value, str) and is_secret_name(name):
                raise ValueError(
                    f"extra_body must not contain a key, got {name}. The config is stored with the run: "
                    "export the key as a variable, and set api_key_env to its name."
                )
        for key, names in (("omit", self.omit), ("rename", tuple(self.rename))):
            for name in names:
                if name not in SHAPED_FIELDS:
                    raise ValueError(f"{key} must name some of {', '.join(SHAPED_FIELDS)}, got {name!r}.")

    @property
    def url(self) -> str:
        """The address of the endpoint."""
        return self.base_url or OPENAI_URL

    def __str__(self) -> str:
        """Return the endpoint's name for messages."""
        return f"{self.model} at {self.url}"
