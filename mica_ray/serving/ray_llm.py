"""Models run by ray.serve.llm. Only this file uses its API, which is alpha."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from mica_ray.serving.http.backend import BackendError, ChatRequest, FailureKind, TextDelta, Usage
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import Replicas

_FAILURES: dict[int, FailureKind] = {400: "refused", 404: "unknown_model", 429: "busy"}


def llm_deployment(model: ModelSpec, replicas: Replicas, options: Mapping[str, Any]) -> serve.Application:
    """Deploy a model with ray.serve.llm.

    Args:
        model: to run.
        replicas: their number and load.
        options: Ray Serve options, the same as for our own replicas.
    """
    from ray.serve.llm import LLMConfig, build_llm_deployment

    engine = model.engine
    # LLMConfig takes a mapping for CPUs, and detects GPUs when it gets None.
    accelerator: Any = None if engine.gpus_per_engine else {"kind": "cpu"}
    config = LLMConfig(
        model_loading_config={"model_id": model.id, "model_source": model.path},
        accelerator_config=accelerator,
        engine_kwargs={
            "dtype": engine.dtype,
            "max_model_len": engine.max_model_len,
            "tensor_parallel_size": engine.tensor_parallel,
            "max_num_seqs": engine.max_num_seqs,
            "enforce_eager": engine.is_eager,
            "kv_cache_memory_bytes": int(engine.kv_cache_gib * 2**30),
            "generation_config": "vllm",
        },
        deployment_config={
            "autoscaling_config": {
                "min_replicas": replicas.at_least,
                "max_replicas": replicas.at_most,
                "target_ongoing_requests": replicas.target_ongoing,
            },
            "max_ongoing_requests": replicas.max_ongoing,
        },
        runtime_env={"env_vars": {**model.environment, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}},
    )
    return build_llm_deployment(config, override_serve_options=dict(options))


class RayLlmModel:
    """A model run by ray.serve.llm. Consumes requests, produces text, waits for its deployment.

    Args:
        handle: of the deployment.
        model: the model it runs; its tokenizer is loaded here too, to count prompt tokens.
    """

    def __init__(self, handle: DeploymentHandle, model: ModelSpec) -> None:
        self._handle = handle
        self._model = model
        self._prompt = model.prompt()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces, streamed or not; closing the generator stops the sampling.

        Raises:
            BackendError: the conversation is too long, or the model rejected the request or failed.
        """
        from ray.serve.llm.openai_api_models import ChatCompletionRequest

        _check(request)
        rendered = self._prompt.render(request)
        completion_request = ChatCompletionRequest.model_validate(
            self._fields(request, len(rendered.prompt_ids))
        )
        is_open, tags = rendered.begins_in_thought, self._prompt.template.thinking_tags
        response: Any = self._handle.options(stream=True).chat.remote(completion_request)
        last: TextDelta | None = None
        try:
            async for answer in response:
                for event in _events(answer):
                    piece = _piece(event)
                    if last is not None and piece.usage is not None:
                        last = replace(last, usage=piece.usage)
                    elif piece.finish_reason is not None:
                        last = piece  # Held back: the usage follows in an event of its own.
                    elif piece.text:
                        yield replace(piece, begins_in_thought=is_open, thinking_tags=tags)
                        is_open = False
            if last is not None:
                yield replace(last, begins_in_thought=is_open, thinking_tags=tags)
        finally:
            response.cancel()

    def _fields(self, request: ChatRequest, num_prompt_tokens: int) -> dict[str, object]:
        sampling = request.sampling
        room = self._model.engine.max_model_len - num_prompt_tokens
        return {
            "model": self._model.id,
            # The server renders the messages itself, and recognizes control tokens in them.
            "messages": self._prompt.template.escaped(self._prompt.messages(request)),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # vLLM's server rejects a request for more tokens than the context has left.
            "max_completion_tokens": min(sampling.max_tokens, room),
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            # Marks of thoughts that are special tokens must be in the text.
            "skip_special_tokens": not self._prompt.template.has_special_marks,
            "chat_template_kwargs": {**self._model.template_arguments, **request.template_arguments},
            **_option_fields(request),
        }


def _check(request: ChatRequest) -> None:
    """Check that ray.serve.llm can serve a request through this file.

    Raises:
        BackendError: it has tools, log probabilities or a begun reply.
    """
    begun = request.messages[-1]["role"] == "assistant"
    wanted = {
        "tools": request.tool_use is not None,
        "logprobs": request.options.top_logprobs is not None,
        "messages": begun and request.tool_use is None,
    }
    for param, is_wanted in wanted.items():
        if is_wanted:
            problem = f"The service runs on ray.serve.llm, which does not serve this use of {param} here."
            raise BackendError(f"{problem} Leave it out.", kind="refused", param=param)


def _option_fields(request: ChatRequest) -> dict[str, object]:
    """Return the fields of the options that the request sets."""
    options = request.options
    fields: dict[str, object] = {
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "repetition_penalty": options.repetition_penalty,
        "top_k": options.top_k,
        "min_p": options.min_p,
    }
    if options.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in options.logit_bias}
    if options.schema is not None:
        schema = {"name": "reply", "schema": dict(options.schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def _events(answer: Any) -> Sequence[Mapping[str, Any]]:
    """Parse what `chat` yields: lists of server-sent events as text, or one error object.

    Raises:
        BackendError: it is an error object.
    """
    parts = answer if isinstance(answer, list) else [answer]
    events: list[Mapping[str, Any]] = []
    for part in parts:
        if not isinstance(part, str):
            code = getattr(getattr(part, "error", part), "code", 500)
            raise BackendError(
                "The model rejected the request." if code == 400 else "The model failed. Try again.",
                kind=_FAILURES.get(code, "unavailable"),
            )
        for line in part.split("\n\n"):
            content = line.removeprefix("data:").strip()
            if content and content != "[DONE]":
                events.append(json.loads(content))
    return events


def _piece(event: Mapping[str, Any]) -> TextDelta:
    if "error" in event:
        raise BackendError("The model failed. Try again.", kind="unavailable")
    counts = event.get("usage")
    usage = None if counts is None else Usage(counts["prompt_tokens"], counts["completion_tokens"])
    if not event["choices"]:
        return TextDelta("", usage=usage)
    choice = event["choices"][0]
    reason = choice.get("finish_reason")
    return TextDelta(
        choice.get("delta", {}).get("content") or "",
        None if reason is None else "length" if reason == "length" else "stop",
        usage,
    )
