"""OpenAI-compatible endpoints as chat models: deadlines, retries, limited concurrency.

The request is made by chat/request_body.py, and the answer read by chat/completion.py and chat/error_body.py.
Keys are arguments; launch/world.py reads them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urlsplit

import openai
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
from mica_ray.chat.completion import NoCompletionError, ReportedError, Usage, read_reply
from mica_ray.chat.endpoint import Endpoint
from mica_ray.chat.error_body import EndpointError, one_line, read_error
from mica_ray.chat.http_client import key_headers, make_client, proxy_of
from mica_ray.chat.model import ChatError, ChatReply, ErrorKind, JsonSchema
from mica_ray.chat.request_body import remedy_for, request_body
from mica_ray.chat.retry_after import asked_seconds
from mica_ray.secrets import checked_key
from mica_ray.types import Message, Sampling

__all__ = ["DEFAULT_SLOTS", "Endpoint", "OpenAIChat"]

DEFAULT_SLOTS = 16
"""Calls in flight outside of training, if the endpoint sets no limit."""

_CHARACTERS_PER_TOKEN = 3
"""Used for estimates. English has about four characters per token, Chinese between one and two."""

_REMEDIES = {
    400: "The model rejects the request. Check its message and the setting structured_output.",
    401: "The key is invalid. Check the variable {variable}, which contains it.",
    403: "The key may not use this model. Check the account's permissions.",
    404: "The model or address does not exist. Check model and base_url.",
    407: "Check the login in the proxy's address.",
    422: "The endpoint rejects the request. Check its message.",
}
_PROXY_STATUSES = (403, 407, 502, 503, 504)
"""A proxy on the way may have answered with these."""


class OpenAIChat:
    """A chat model behind an endpoint. Bound to the event loop of its first use.

    Args:
        endpoint: address and limits.
        api_key: sent with every call; any non-empty text if the endpoint needs no key.
        slots: calls in flight, if the endpoint sets no limit.

    Raises:
        ValueError: the key is empty or cannot be a key, or the environment's proxies cannot be used.
    """

    def __init__(self, endpoint: Endpoint, api_key: str, *, slots: int = DEFAULT_SLOTS) -> None:
        if not api_key:
            raise ValueError(f"There is no key for {endpoint}. Set {endpoint.api_key_env}.")
        self._endpoint = endpoint
        self._key = checked_key(api_key, endpoint.api_key_env)
        self._client = make_client(endpoint, self._key)
        self._slots = asyncio.Semaphore(endpoint.max_concurrency or slots)
        self._admission = Admission(endpoint, str(endpoint))

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        The tokens of the reply, or of the error, include those of its unusable attempts.

        Args:
            messages: the conversation so far.
            sampling: sampling parameters.
            schema: JSON schema of the answer, None for free text; enforced as far as possible.

        Raises:
            ChatError: at once if a retry cannot help (refused, an answer without text, no admission before
                the deadline, a wait that the endpoint asks for beyond it), otherwise after the last attempt
                or the deadline.
        """
        patience = self._endpoint
        retrying = AsyncRetrying(
            stop=stop_after_attempt(patience.attempts) | stop_before_delay(patience.deadline_seconds),
            wait=self._pause,
            retry=retry_if_exception_type(_TransientError),
            reraise=True,
        )
        body = request_body(patience, messages, sampling, schema)
        async with self._slots:
            started = time.monotonic()
            call = _Call(body, _estimated_tokens(messages, sampling), started + patience.deadline_seconds)
            try:
                reply: ChatReply = await retrying(self._attempt, call)
            except ChatError as error:
                error.prompt_tokens, error.completion_tokens = call.prompt_tokens, call.completion_tokens
                raise
        return replace(
            reply,
            seconds=time.monotonic() - started,
            attempts=cast(int, retrying.statistics["attempt_number"]),
            prompt_tokens=reply.prompt_tokens + call.prompt_tokens,
            completion_tokens=reply.completion_tokens + call.completion_tokens,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _attempt(self, call: _Call) -> ChatReply:
        """Make one attempt once it is admitted."""
        async with self._admission.attempt(call.until, call.estimated_tokens):
            try:
                reply = await self._ask(call)
            except ChatError as error:
                call.prompt_tokens += error.prompt_tokens
                call.completion_tokens += error.completion_tokens
                raise
        if reply.prompt_tokens:
            self._admission.correct_tokens(
                call.estimated_tokens, reply.prompt_tokens + reply.completion_tokens
            )
        return reply

    async def _ask(self, call: _Call) -> ChatReply:
        seconds = max(0.0, min(self._endpoint.timeout_seconds, call.until - time.monotonic()))
        try:
            # httpx limits the time between two bytes, so only this timeout stops a slow stream of bytes.
            async with asyncio.timeout(seconds):
                body = await self._post(call.body)
                return read_reply(body, model=self._endpoint.model, endpoint=str(self._endpoint))
        except (TimeoutError, openai.APITimeoutError) as error:
            problem = f"no answer within {seconds:.3g} s. Raise timeout_seconds, or check its load."
            raise self._transient(problem, "timeout") from error
        except openai.APIConnectionError as error:
            raise self._transient(self._unreachable(error), "infrastructure") from error
        except openai.APIStatusError as error:
            # Without the cause: its text is what the endpoint says, before secrets are removed.
            found = read_error(error.response.content, error.status_code)
            raise self._problem(found, call, headers=error.response.headers) from None
        except ReportedError as reported:
            raise self._problem(reported.error, call, usage=reported.usage) from None
        except (openai.APIError, ValueError) as error:
            usage = error.usage if isinstance(error, NoCompletionError) else Usage()
            problem = f"the answer is not a chat completion: {one_line(str(error))}"
            raise self._transient(problem, "content", usage=usage) from None

    async def _post(self, body: Mapping[str, object]) -> bytes:
        messages = cast(list[ChatCompletionMessageParam], body["messages"])
        # The raw answer: the client itself accepts any content with status 200.
        answer = await self._client.chat.completions.with_raw_response.create(
            model=self._endpoint.model,
            messages=messages,
            extra_body=dict(body),
            extra_headers=key_headers(self._endpoint, self._key),
        )
        return answer.content

    def _problem(
        self,
        found: EndpointError,
        call: _Call,
        *,
        headers: Mapping[str, str] | None = None,
        usage: Usage | None = None,
    ) -> ChatError:
        """Return the error of an attempt that the endpoint answered with an error.

        Args:
            found: what the endpoint says.
            call: with the request and the deadline.
            headers: of the response, None if its status was 200.
            usage: tokens that were billed all the same.
        """
        usage = usage or Usage()
        where = f"status {found.status}" if headers is not None else "an error in a response with status 200"
        said = f"{where}: {found.said}{self._through(found.status)}"
        if found.reason == "overloaded":
            asked = asked_seconds(headers or {}, found.payload, status=found.status) or 0.0
            if time.monotonic() + asked <= call.until:
                return self._transient(said, "infrastructure", pause_seconds=asked, usage=usage)
            problem = (
                f"{said}. The endpoint asks to wait {asked:.0f} s, which is after the deadline of "
                f"{self._endpoint.deadline_seconds:g} s. Wait, lower requests_per_minute, or raise "
                "deadline_seconds."
            )
            return self._error(problem, "infrastructure", usage)
        if found.reason == "no_credit":
            problem = f"{said}. The account has no credit left. Add credit, or change the endpoint."
            return self._error(problem, "refused", usage)
        if found.reason == "filtered":
            return self._error(f"{said}. Its filter rejects this text; change the prompt.", "content", usage)
        remedy = remedy_for(found, self._endpoint, call.body) if found.status in (None, 400, 422) else None
        if remedy is None:
            remedy = _REMEDIES.get(found.status or 400, "The endpoint does not accept this request.")
            remedy = remedy.format(variable=self._endpoint.api_key_env)
        return self._error(f"{said}. {remedy}", "refused", usage)

    def _unreachable(self, error: openai.APIConnectionError) -> str:
        cause = one_line(str(error.__cause__ or error)) or type(error.__cause__).__name__
        proxy = proxy_of(self._endpoint.url)
        if proxy is None:
            return f"no connection ({cause}). Check base_url and that the server runs."
        host = urlsplit(self._endpoint.url).hostname
        return (
            f"no connection through the proxy {proxy} ({cause}). Check that the proxy runs and accepts its "
            f"login, or add {host} to NO_PROXY."
        )

    def _through(self, status: int | None) -> str:
        proxy = proxy_of(self._endpoint.url) if status in _PROXY_STATUSES else None
        return "" if proxy is None else f" (through the proxy {proxy})"

    def _pause(self, state: RetryCallState) -> float:
        """Return the pause before the next attempt: random up to a doubling limit, or as asked."""
        endpoint = self._endpoint
        pause = wait_random_exponential(endpoint.first_pause_seconds, endpoint.longest_pause_seconds)(state)
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause_seconds if isinstance(error, _TransientError) else 0.0
        return min(max(pause, asked), endpoint.longest_pause_seconds)

    def _error(self, problem: str, kind: ErrorKind, usage: Usage) -> ChatError:
        return ChatError(
            f"{self._endpoint}: {problem}",
            kind=kind,
            endpoint=str(self._endpoint),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )

    def _transient(
        self, problem: str, kind: ErrorKind, *, pause_seconds: float = 0.0, usage: Usage | None = None
    ) -> ChatError:
        return _TransientError(
            f"{self._endpoint}: {problem}", kind, str(self._endpoint), pause_seconds, usage or Usage()
        )


@dataclass(slots=True)
class _Call:
    """A request with all its attempts."""

    body: Mapping[str, object]
    estimated_tokens: int
    until: float
    """Deadline on the monotonic clock."""
    prompt_tokens: int = 0
    """Billed for attempts without a usable answer."""
    completion_tokens: int = 0


class _TransientError(ChatError):
    """A problem that may not recur at the next attempt."""

    def __init__(
        self, message: str, kind: ErrorKind, endpoint: str, pause_seconds: float, usage: Usage
    ) -> None:
        super().__init__(
            message,
            kind=kind,
            endpoint=endpoint,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        self.pause_seconds = pause_seconds
        """Pause that the endpoint requested; 0 if it did not."""


def _estimated_tokens(messages: Sequence[Message], sampling: Sampling) -> int:
    characters = sum(len(message["content"]) for message in messages)
    return characters // _CHARACTERS_PER_TOKEN + sampling.max_tokens
