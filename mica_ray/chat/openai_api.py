"""Any OpenAI-compatible endpoint as a ChatModel: deadlines, retries with jitter, a bound on calls at once.

Keys come in as arguments; nothing here reads the environment. When an attempt may begin: admission.py.
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
from mica_ray.chat.completion import CompletionUsage, EndpointCompletion, StructuredOutput, response_format
from mica_ray.chat.model import ChatError, ChatReply, ErrorKind, JsonSchema
from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking
from mica_ray.types import Message, Sampling

_OPENAI_URL = "https://api.openai.com/v1"

_TIMES = (
    "timeout_seconds",
    "deadline_seconds",
    "first_pause_seconds",
    "longest_pause_seconds",
    "breaker_pause_seconds",
    "breaker_longest_pause_seconds",
)

_CHARACTERS_PER_TOKEN = 3
"""For estimates: English takes about four, Chinese between one and two."""

_REMEDIES = {
    400: "the request does not suit this model: see what it says, and the setting structured_output",
    401: "the key is not accepted: check the variable that holds it",
    403: "the key may not use this model: check the account's rights",
    404: "no such model or address: check model and base_url",
    422: "the request does not suit this endpoint: see what it says",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served and how patiently it is asked."""

    model: str
    base_url: str | None = None
    """Up to and with "/v1"; None: OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; whoever builds the model reads it."""
    timeout_seconds: float = 60.0
    """For one attempt."""
    deadline_seconds: float = 180.0
    """For one answer with all its attempts and pauses, from the moment a slot is free."""
    attempts: int = 4
    max_concurrency: int = 16
    """Calls in flight at most; the others wait for a slot. This bound and those per minute are one process's:
    trials of a sweep that run at once take so much each, and an endpoint's quota must be divided by them."""
    first_pause_seconds: float = 1.0
    """Upper end of the first random pause; it doubles with every attempt."""
    longest_pause_seconds: float = 20.0
    """Upper end of any pause, one that the endpoint asks for included."""
    requests_per_minute: float | None = None
    """Evenly spaced, retries included; None for no bound."""
    tokens_per_minute: float | None = None
    """Of prompts and answers, estimated before a call and corrected after it; None for no bound."""
    breaker_failures: int = 8
    """Failures of the server in a row, time-outs included, after which it is left alone for a while."""
    breaker_pause_seconds: float = 5.0
    """Until one call probes it; doubles with each failed probe."""
    breaker_longest_pause_seconds: float = 60.0
    price_per_million_prompt_tokens: float = 0.0
    """USD, for the cost ledger."""
    price_per_million_completion_tokens: float = 0.0
    """USD, for the cost ledger; thinking is billed too."""
    structured_output: StructuredOutput = "json_schema"
    """What the endpoint can enforce when a schema is given."""
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the bound on a reply's tokens."""
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])
    """Sent with every request as it is, for instance {"chat_template_kwargs": {"enable_thinking": False}}."""

    def __post_init__(self) -> None:
        """Refuse an endpoint that could never answer."""
        if not self.model:
            raise ValueError(f"model must name the model to ask; got {self.model!r}")
        for name in (*_TIMES, "requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
        for name in ("attempts", "max_concurrency", "breaker_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("price_per_million_prompt_tokens", "price_per_million_completion_tokens"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}")

    @property
    def url(self) -> str:
        """The address that is asked."""
        return self.base_url or _OPENAI_URL

    def __str__(self) -> str:
        """Name the endpoint for messages to people."""
        return f"{self.model} at {self.url}"


class OpenAIChat:
    """One endpoint behind the ChatModel protocol. Belongs to the event loop it is first used in.

    Args:
        endpoint: whom to ask and how patiently.
        api_key: sent with every call; any non-empty text where the endpoint asks for none.

    Raises:
        ValueError: the key is empty.
    """

    def __init__(self, endpoint: Endpoint, api_key: str) -> None:
        if not api_key:
            raise ValueError(f"no key for {endpoint}: set {endpoint.api_key_env}")
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
            sampling: how to sample.
            schema: JSON schema of the answer, None for free text; enforced as far as the endpoint can.

        Raises:
            ChatError: "refused" at once where a retry cannot help; "timeout", "infrastructure" or "content"
                when the attempts or the time are used up.
        """
        patience = self._endpoint
        retrying = AsyncRetrying(
            stop=stop_after_attempt(patience.attempts) | stop_before_delay(patience.deadline_seconds),
            wait=self._pause,
            retry=retry_if_exception_type(_Passing),
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
        """Ask once, as soon as that is allowed, at most until the deadline on the monotonic clock."""
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
            # httpx counts the time between two bytes: a trickling endpoint is stopped only here.
            async with asyncio.timeout(seconds):
                return self._read(await self._create(messages, sampling, schema))
        except (TimeoutError, openai.APITimeoutError) as error:
            raise self._passing(f"no answer within {seconds:.3g} s", "timeout") from error
        except openai.APIConnectionError as error:
            problem = f"no connection ({error.__cause__ or error}): check base_url and that the server runs"
            raise self._passing(problem, "infrastructure") from error
        except openai.APIStatusError as error:
            raise self._status_problem(error) from error
        except (openai.APIError, ValueError) as error:
            raise self._passing(f"an answer that is no chat completion: {_line(error)}", "content") from error

    async def _create(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> str:
        endpoint = self._endpoint
        is_old_name = endpoint.token_limit_name == "max_tokens"
        # The raw answer: the client itself would pass on anything that came with status 200.
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

    def _read(self, body: str) -> ChatReply:
        """Take the text out of an answer.

        Raises:
            ValueError: the answer has not the form of a chat completion.
            ChatError: it has, and says nothing.
        """
        completion = EndpointCompletion.model_validate_json(body)
        choice, usage = completion.choices[0], completion.usage or CompletionUsage()
        said, problem = None, f"an empty answer (finish reason {choice.finish_reason}): "
        reasoning = choice.message.reasoning_content or choice.message.reasoning or ""
        try:
            said = split_thinking(choice.message.content or "", reasoning)
        except UnclosedThoughtError as error:
            problem = str(error)
        else:
            remedy = "raise max_tokens, or turn the model's thinking off"
            problem += remedy if choice.finish_reason == "length" else "the model declined, or its filter did"
        if said is None or not said.text:
            # A retry would ask for the same with the same seed.
            raise ChatError(
                f"{self._endpoint}: {problem}",
                kind="content",
                endpoint=str(self._endpoint),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
            )
        return ChatReply(
            text=said.text,
            model=completion.model or self._endpoint.model,
            thinking=said.thinking,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )

    def _status_problem(self, error: openai.APIStatusError) -> ChatError:
        status = error.status_code
        said = f"status {status}: {_line(error)}"
        # An account without credit answers 429 for ever.
        if status in (408, 409, 429) or status >= 500:
            if error.code != "insufficient_quota":
                return self._passing(said, "infrastructure", _seconds_asked_for(error))
            return self._error(f"{said}; the account has no credit left", "refused")
        remedy = _REMEDIES.get(status, "the endpoint does not take this request")
        return self._error(f"{said}; {remedy}", "refused")

    def _pause(self, state: RetryCallState) -> float:
        """Give the seconds to the next attempt: random up to a doubling bound, or what was asked for."""
        endpoint = self._endpoint
        pause = wait_random_exponential(endpoint.first_pause_seconds, endpoint.longest_pause_seconds)(state)
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause_seconds if isinstance(error, _Passing) else 0.0
        return min(max(pause, asked), endpoint.longest_pause_seconds)

    def _error(self, problem: str, kind: ErrorKind) -> ChatError:
        return ChatError(f"{self._endpoint}: {problem}", kind=kind, endpoint=str(self._endpoint))

    def _passing(self, problem: str, kind: ErrorKind, pause_seconds: float = 0.0) -> ChatError:
        return _Passing(f"{self._endpoint}: {problem}", kind, str(self._endpoint), pause_seconds)


class _Passing(ChatError):
    """A problem that may be gone at the next attempt."""

    def __init__(self, message: str, kind: ErrorKind, endpoint: str, pause_seconds: float) -> None:
        super().__init__(message, kind=kind, endpoint=endpoint)
        self.pause_seconds = pause_seconds
        """What the endpoint asked to wait, 0 when it did not say."""


def _seconds_asked_for(error: openai.APIStatusError) -> float:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", 0)))
    except ValueError:  # A date: the random pause will do.
        return 0.0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
