"""OpenAI-compatible endpoints as chat models: deadlines, retries, limited concurrency.

Keys are arguments; nothing here reads the environment. chat/admission.py decides when an attempt may begin.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import openai
from openai import omit
from openai.types.chat import ChatCompletionMessageParam
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from mica_ray.chat.admission import Admission
from mica_ray.chat.completion import StructuredOutput, read_reply, response_format
from mica_ray.chat.model import ChatError, ChatReply, ErrorKind, JsonSchema
from mica_ray.checks import above, at_least
from mica_ray.types import Message, Sampling

_OPENAI_URL = "https://api.openai.com/v1"

_CHARACTERS_PER_TOKEN = 3
"""Used for estimates. English has about four characters per token, Chinese between one and two."""

_REMEDIES = {
    400: "The model rejects the request. Check its message and the setting structured_output.",
    401: "The key is invalid. Check the variable that contains it.",
    403: "The key may not use this model. Check the account's permissions.",
    404: "The model or address does not exist. Check model and base_url.",
    422: "The endpoint rejects the request. Check its message.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address, limits and prices of a served model."""

    model: str
    base_url: str | None = None
    """Address up to and including "/v1"; None for OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that contains the key; launch/world.py reads it."""
    timeout_seconds: float = 60.0
    """Timeout of one attempt."""
    deadline_seconds: float = 180.0
    """Deadline of one answer with all its attempts and pauses, from the moment a slot is free."""
    attempts: int = 4
    max_concurrency: int = 16
    """Maximum number of calls in flight; further calls wait for a slot. This limit and those per minute hold
    per process: divide an endpoint's quota by the number of sweep trials that run at once."""
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
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])
    """Added to every request unchanged, e.g. {"chat_template_kwargs": {"enable_thinking": False}}."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.model:
            raise ValueError(f"model must be the name of a model, got {self.model!r}.")
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
            max_concurrency=self.max_concurrency,
            breaker_failures=self.breaker_failures,
        )
        at_least(
            0,
            price_per_million_prompt_tokens=self.price_per_million_prompt_tokens,
            price_per_million_completion_tokens=self.price_per_million_completion_tokens,
        )

    @property
    def url(self) -> str:
        """The address of the endpoint."""
        return self.base_url or _OPENAI_URL

    def __str__(self) -> str:
        """Return the endpoint's name for messages."""
        return f"{self.model} at {self.url}"


class OpenAIChat:
    """A chat model behind an endpoint. Bound to the event loop of its first use.

    Args:
        endpoint: address and limits.
        api_key: sent with every call; any non-empty text if the endpoint needs no key.

    Raises:
        ValueError: the key is empty.
    """

    def __init__(self, endpoint: Endpoint, api_key: str) -> None:
        if not api_key:
            raise ValueError(f"There is no key for {endpoint}. Set {endpoint.api_key_env}.")
        self._endpoint = endpoint
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=endpoint.url, max_retries=0, timeout=endpoint.timeout_seconds
        )
        self._slots = asyncio.Semaphore(endpoint.max_concurrency)
        self._admission = Admission(endpoint, str(endpoint))

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        Args:
            messages: the conversation so far.
            sampling: sampling parameters.
            schema: JSON schema of the answer, None for free text; enforced as far as possible.

        Raises:
            ChatError: at once if a retry cannot help (refused, an answer without text, no admission before
                the deadline), otherwise after the last attempt or the deadline.
        """
        patience = self._endpoint
        retrying = AsyncRetrying(
            stop=stop_after_attempt(patience.attempts) | stop_before_delay(patience.deadline_seconds),
            wait=self._pause,
            retry=retry_if_exception_type(_TransientError),
            reraise=True,
        )
        async with self._slots:
            started = time.monotonic()
            until = started + patience.deadline_seconds
            reply: ChatReply = await retrying(self._attempt, messages, sampling, schema, until)
        attempts = cast(int, retrying.statistics["attempt_number"])
        return replace(reply, seconds=time.monotonic() - started, attempts=attempts)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _attempt(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None, until: float
    ) -> ChatReply:
        """Make one attempt once it is admitted; `until` is the deadline on the monotonic clock."""
        characters = sum(len(message["content"]) for message in messages)
        estimated = characters // _CHARACTERS_PER_TOKEN + sampling.max_tokens
        async with self._admission.attempt(until, estimated):
            reply = await self._ask(messages, sampling, schema, until)
        if reply.prompt_tokens:
            self._admission.correct_tokens(estimated, reply.prompt_tokens + reply.completion_tokens)
        return reply

    async def _ask(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None, until: float
    ) -> ChatReply:
        seconds = max(0.0, min(self._endpoint.timeout_seconds, until - time.monotonic()))
        try:
            # httpx limits the time between two bytes, so only this timeout stops a slow stream of bytes.
            async with asyncio.timeout(seconds):
                body = await self._create(messages, sampling, schema)
                return read_reply(body, model=self._endpoint.model, endpoint=str(self._endpoint))
        except (TimeoutError, openai.APITimeoutError) as error:
            problem = f"no answer within {seconds:.3g} s. Raise timeout_seconds, or check its load."
            raise self._transient(problem, "timeout") from error
        except openai.APIConnectionError as error:
            problem = f"no connection ({error.__cause__ or error}). Check base_url and that the server runs."
            raise self._transient(problem, "infrastructure") from error
        except openai.APIStatusError as error:
            raise self._status_problem(error) from error
        except (openai.APIError, ValueError) as error:
            raise self._transient(
                f"the answer is not a chat completion: {_line(error)}", "content"
            ) from error

    async def _create(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> str:
        endpoint = self._endpoint
        is_old_name = endpoint.token_limit_name == "max_tokens"
        # The raw answer: the client itself accepts any content with status 200.
        answer = await self._client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=cast(list[ChatCompletionMessageParam], list(messages)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens if is_old_name else omit,
            max_completion_tokens=omit if is_old_name else sampling.max_tokens,
            seed=omit if sampling.seed is None else sampling.seed,
            stop=list(sampling.stop) or omit,
            response_format=response_format(endpoint.structured_output, schema),
            extra_body=dict(endpoint.extra_body) or None,
        )
        return answer.text

    def _status_problem(self, error: openai.APIStatusError) -> ChatError:
        status = error.status_code
        said = f"status {status}: {_line(error)}"
        # An account without credit answers 429 permanently.
        if status in (408, 409, 429) or status >= 500:
            if error.code != "insufficient_quota":
                return self._transient(said, "infrastructure", _seconds_asked_for(error))
            return self._error(
                f"{said}. The account has no credit left. Add credit, or change the endpoint.", "refused"
            )
        remedy = _REMEDIES.get(status, "The endpoint does not accept this request.")
        return self._error(f"{said}. {remedy}", "refused")

    def _pause(self, state: RetryCallState) -> float:
        """Return the pause before the next attempt: random up to a doubling limit, or Retry-After."""
        endpoint = self._endpoint
        pause = wait_random_exponential(endpoint.first_pause_seconds, endpoint.longest_pause_seconds)(state)
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause_seconds if isinstance(error, _TransientError) else 0.0
        return min(max(pause, asked), endpoint.longest_pause_seconds)

    def _error(self, problem: str, kind: ErrorKind) -> ChatError:
        return ChatError(f"{self._endpoint}: {problem}", kind=kind, endpoint=str(self._endpoint))

    def _transient(self, problem: str, kind: ErrorKind, pause_seconds: float = 0.0) -> ChatError:
        return _TransientError(f"{self._endpoint}: {problem}", kind, str(self._endpoint), pause_seconds)


class _TransientError(ChatError):
    """A problem that may not recur at the next attempt."""

    def __init__(self, message: str, kind: ErrorKind, endpoint: str, pause_seconds: float) -> None:
        super().__init__(message, kind=kind, endpoint=endpoint)
        self.pause_seconds = pause_seconds
        """Pause that the endpoint requested; 0 if it did not."""


def _seconds_asked_for(error: openai.APIStatusError) -> float:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", 0)))
    except ValueError:  # A date: the random pause is used instead.
        return 0.0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
