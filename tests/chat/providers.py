"""Servers that imitate hosted and local endpoints: what they reject, how they answer, how they report errors.

The rules are those of their public documentation; every text is our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chat.local_endpoint import Answer, LocalEndpoint, Request

Body = dict[str, Any]

CUT, FILTERED, BUSY, LOCKED, THINKING = "#cut", "#filtered", "#busy", "#locked", "#thinking"
"""What a test wants the server to do, at the end of the last message."""

KEY = "key-of-the-tests-0123456789abcdef"


@dataclass
class Provider:
    """The plain protocol, as OpenAI described it first; subclasses differ where their namesakes do."""

    name: str = "plain"
    shaping: str = "{}"
    """JSON of the endpoint fields with which every request works."""
    busy: str = "Too many requests for this minute"
    locked: str = "This key opens nothing"
    wait: float = 0.02
    """Seconds that a busy server asks to wait."""
    rejects: tuple[str, ...] = ()
    counts: tuple[int, int] = (7, 3)
    """Tokens that are booked for one answer."""
    is_filter_silent: bool = False
    """Whether a filtered answer is an empty one without a reason."""

    async def __aenter__(self) -> Provider:
        self.server = LocalEndpoint(respond=self.respond)
        await self.server.__aenter__()
        self.num_busy = 0
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.server.__aexit__(*problem)

    @property
    def url(self) -> str:
        return self.server.url

    async def respond(self, request: Request) -> Answer:
        wish = request["messages"][-1]["content"].rpartition(" ")[2]
        if self.sent_key() != KEY or wish == LOCKED:
            return self.refuse_key()
        if rejected := self.rejected(request):
            return rejected
        if wish == BUSY:
            self.num_busy += 1
            return self.overload() if self.num_busy == 1 else self.answer("free again", "stop")
        if wish == FILTERED:
            return self.filtered()
        if wish == THINKING:
            return self.thought("Let me think.")
        return self.answer(
            "Half a sent" if wish == CUT else '{"a": "yes"}', "length" if wish == CUT else "stop"
        )

    def sent_key(self) -> str:
        return self.server.heads[-1].get("authorization", "").removeprefix("Bearer ")

    def rejected(self, request: Request) -> Answer | None:
        for name in self.rejects:
            if name in request:
                return self.reject(name)
        return None

    def reject(self, name: str) -> Answer:
        return self.error(400, f"Field '{name}' cannot be used here.", param=name)

    def refuse_key(self) -> Answer:
        return self.error(401, f"{self.locked}: {self.sent_key()}", code="invalid_api_key")

    def overload(self) -> Answer:
        return self.error(429, self.busy, headers={"retry-after-ms": str(1000 * self.wait)})

    def filtered(self) -> Answer:
        return self.answer(None, "content_filter")

    def thought(self, thinking: str) -> Answer:
        return self.completion({"content": None, "reasoning_content": thinking}, "length")

    def answer(self, text: str | None, reason: str) -> Answer:
        return self.completion({"content": text}, reason)

    def completion(self, message: Body, reason: str | None, **more: object) -> Answer:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        return self.json({"choices": [choice], "usage": self.usage(), **more})

    def usage(self) -> object:
        return {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json({"error": {"message": message, "type": "some_error", **more}}, status, headers)

    def json(self, body: object, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
        return Answer(status=status, body=json.dumps(body), headers=dict(headers))


class OpenAI(Provider):
    """gpt-5: no max_tokens, no temperature except 1, neither top_p nor stop."""

    def rejected(self, request: Request) -> Answer | None:
        if "max_tokens" in request:
            text = "'max_tokens' is not supported by this model; send 'max_completion_tokens'."
            return self.error(400, text, param="max_tokens", code="unsupported_parameter")
        if request.get("temperature", 1) != 1:
            return self.error(
                400, "Only a temperature of 1 works.", param="temperature", code="unsupported_value"
            )
        for name in ("top_p", "stop"):
            if name in request:
                return self.error(
                    400, f"'{name}' is not supported.", param=name, code="unsupported_parameter"
                )
        return None

    def refuse_key(self) -> Answer:
        shown = f"{self.sent_key()[:8]}{'*' * 20}{self.sent_key()[-4:]}"
        return self.error(401, f"{self.locked}: {shown}", code="invalid_api_key")

    def overload(self) -> Answer:
        limits = {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{1000 * self.wait:g}ms",
        }
        return self.error(429, self.busy, headers=limits, code="rate_limit_exceeded")

    def thought(self, thinking: str) -> Answer:
        return self.completion({"content": "", "refusal": None, "annotations": []}, "length")


class Azure(Provider):
    """A deployment path, the header api-key, filters that say what they filter."""

    def sent_key(self) -> str:
        return self.server.heads[-1].get("api-key", "")

    @property
    def url(self) -> str:
        return f"{self.server.url.removesuffix('/v1')}/openai/deployments/judge?api-version=2025-01-01"

    def rejected(self, request: Request) -> Answer | None:
        expected = "/openai/deployments/judge/chat/completions?api-version=2025-01-01"
        if self.server.heads[-1]["path"] != expected or "authorization" in self.server.heads[-1]:
            return self.error(404, "No such deployment", code="DeploymentNotFound")
        return None

    def refuse_key(self) -> Answer:
        return self.json({"statusCode": 401, "message": f"{self.locked}."}, 401)

    def filtered(self) -> Answer:
        inner = {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True}},
        }
        body = {"message": "The prompt met our filter.", "code": "content_filter", "innererror": inner}
        return self.json({"error": {"type": None, "param": "prompt", "status": 400, **body}}, 400)


class Mistral(Provider):
    """random_seed instead of seed, errors as pydantic writes them, content in parts."""

    def rejected(self, request: Request) -> Answer | None:
        if "seed" not in request:
            return None
        detail = [
            {
                "type": "extra_forbidden",
                "loc": ["body", "seed"],
                "msg": "This input is not permitted",
                "input": 1,
            }
        ]
        return self.json(
            {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}, 422
        )

    def refuse_key(self) -> Answer:
        return self.json({"message": self.locked, "request_id": "1"}, 401)

    def overload(self) -> Answer:
        body = {
            "object": "error",
            "message": self.busy,
            "type": "rate_limited",
            "param": None,
            "code": "1300",
        }
        return self.json(body, 429, {"retry-after": str(self.wait)})

    def answer(self, text: str | None, reason: str) -> Answer:
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "So it is."}], "closed": True}
        parts = [thinking, {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": text}]
        return self.completion({"content": parts}, "model_length" if reason == "length" else reason)

    def filtered(self) -> Answer:
        return self.completion({"content": []}, "content_filter")

    def thought(self, thinking: str) -> Answer:
        parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thinking}]}]
        return self.completion({"content": parts}, "length")


class Gemini(Provider):
    """Errors in a list, waits in the details, counts that are null, choices without a message."""

    def reject(self, name: str) -> Answer:
        text = f"Invalid JSON payload received. Unknown name '{name}': Cannot find field."
        return self.json([{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}], 400)

    def refuse_key(self) -> Answer:
        return self.json(
            [{"error": {"code": 400, "message": self.locked, "status": "INVALID_ARGUMENT"}}], 400
        )

    def overload(self) -> Answer:
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{self.wait}s"}
        error = {"code": 429, "message": self.busy, "status": "RESOURCE_EXHAUSTED", "details": [info]}
        return self.json([{"error": error}], 429)

    def answer(self, text: str | None, reason: str) -> Answer:
        return self.completion({"content": text}, "MAX_TOKENS" if reason == "length" else "STOP")

    def filtered(self) -> Answer:
        return self.json({"choices": [{"index": 0, "finish_reason": "SAFETY"}], "usage": None})

    def thought(self, thinking: str) -> Answer:
        return self.json({"choices": [{"finish_reason": "length", "message": None}], "usage": self.usage()})

    def usage(self) -> object:
        return {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}


class Anthropic(Provider):
    """The compatibility layer: response_format is refused, an error is an object with the type "error"."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        kind = {429: "rate_limit_error", 401: "authentication_error"}.get(status, "invalid_request_error")
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
        return self.json(body, status, headers)

    def reject(self, name: str) -> Answer:
        return self.error(400, f"{name}: this field is not supported")

    def overload(self) -> Answer:
        return self.error(429, self.busy, {"retry-after": f"{self.wait}"})

    def answer(self, text: str | None, reason: str) -> Answer:
        return self.completion({"content": text}, "max_tokens" if reason == "length" else "end_turn")

    def filtered(self) -> Answer:
        return self.completion({"content": ""}, "refusal")


class OpenRouter(Provider):
    """Errors inside status 200, in the body and in the choice, after spaces that keep the connection open."""

    def json(self, body: object, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
        return Answer(status=status, body="\n   " * 200 + json.dumps(body), headers=dict(headers))

    def refuse_key(self) -> Answer:
        metadata = {"raw": json.dumps({"error": {"message": self.locked}}), "provider_name": "Somebody"}
        error = {"code": 401, "message": "Provider returned error", "metadata": metadata}
        return self.json({"error": error, "user_id": "u"})

    def overload(self) -> Answer:
        error = {"code": 429, "message": self.busy, "metadata": {"headers": {"Retry-After": str(self.wait)}}}
        choice = {"error": error, "message": {"content": ""}, "finish_reason": "error"}
        return self.json({"choices": [choice], "usage": self.usage()})

    def filtered(self) -> Answer:
        return self.completion({"content": None, "refusal": "I will not write that."}, "content_filter")

    def thought(self, thinking: str) -> Answer:
        details = [{"type": "reasoning.text", "text": thinking, "format": None, "index": 0}]
        return self.completion({"content": None, "reasoning": None, "reasoning_details": details}, "length")

    def usage(self) -> object:
        return {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.0012, "is_byok": False}


class Ollama(Provider):
    """An error is a text. The key is not looked at."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json({"error": message}, status, headers)

    def thought(self, thinking: str) -> Answer:
        return self.completion({"content": "", "reasoning": thinking}, "length")


class TextGenerationInference(Provider):
    """An error is a text with a type; usage is null; its finish reasons are its own."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json({"error": message, "error_type": "validation"}, status, headers)

    def answer(self, text: str | None, reason: str) -> Answer:
        return self.completion({"content": text}, "eos_token" if reason == "stop" else reason)

    def usage(self) -> object:
        return None


class LlamaCpp(Provider):
    """Code, message and type; timings next to the answer; counts as fractions."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json(
            {"error": {"code": status, "message": message, "type": "server_error"}}, status, headers
        )

    def overload(self) -> Answer:
        return self.error(503, self.busy)

    def completion(self, message: Body, reason: str | None, **more: object) -> Answer:
        return super().completion(message, reason, timings={"predicted_ms": 12.5}, **more)

    def usage(self) -> object:
        return {"prompt_tokens": 6.5, "completion_tokens": "3", "total_tokens": -1}


class Vllm(Provider):
    """With a reasoning parser: the text is null while the reasoning is written; errors without a wrapper."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json(
            {"object": "error", "message": message, "type": "BadRequestError", "code": status}, status
        )

    def answer(self, text: str | None, reason: str) -> Answer:
        return self.completion({"content": text, "reasoning_content": "I see."}, reason, prompt_logprobs=None)

    def thought(self, thinking: str) -> Answer:
        return self.completion({"content": None, "reasoning": thinking, "tool_calls": []}, "length")


class FastApi(Provider):
    """A home-made server: errors as FastAPI writes them, no index, no reason, no usage."""

    def error(self, status: int, message: str, headers: Mapping[str, str] = {}, **more: str) -> Answer:
        return self.json({"detail": message}, status, headers)

    def reject(self, name: str) -> Answer:
        return self.json({"detail": [{"loc": ["body", name], "msg": "extra fields not permitted"}]}, 422)

    def overload(self) -> Answer:
        return self.json({"detail": [{"msg": self.busy}]}, 503, {"retry-after": f"{1000 * self.wait:g} ms"})

    def answer(self, text: str | None, reason: str) -> Answer:
        reasons = {"finish_reason": "length"} if reason == "length" else {}
        return self.json({"choices": [{"message": {"content": text}, **reasons}]})

    def filtered(self) -> Answer:
        return self.json({"choices": [{"message": {"refusal": "No.", "content": None}}]})


PROVIDERS = (
    Provider(),
    OpenAI(
        "openai", '{"token_limit_name": "max_completion_tokens", "omit": ["temperature", "top_p", "stop"]}'
    ),
    Azure("azure", '{"api_key_header": "api-key"}'),
    Mistral("mistral", '{"rename": {"seed": "random_seed"}}'),
    Gemini("gemini", '{"omit": ["seed"]}', rejects=("seed",), counts=(0, 0)),
    Anthropic("anthropic", '{"structured_output": "none"}', rejects=("response_format",)),
    OpenRouter("openrouter"),
    Ollama("ollama"),
    TextGenerationInference("tgi", '{"omit": ["top_p"]}', rejects=("top_p",), counts=(0, 0)),
    LlamaCpp("llama.cpp"),
    Vllm("vllm"),
    FastApi("fastapi", '{"omit": ["seed", "stop"]}', rejects=("seed", "stop"), counts=(0, 0)),
)
"""Every kind of server that the contract tests ask."""
