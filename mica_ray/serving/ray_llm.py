"""ray.serve.llm behind our own requests and pieces: its API is alpha, and this file alone knows it."""

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
    """Describe a model that ray.serve.llm runs.

    Args:
        model: to run.
        replicas: how many copies.
        options: of Ray Serve, as our own replicas have them.
    """
    from ray.serve.llm import LLMConfig, build_llm_deployment

    engine = model.engine
    # LLMConfig reads a mapping, and finds GPUs by itself.
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
    """A model that ray.serve.llm runs. Consumes requests, produces text; waits for its deployment.

    Args:
        handle: of the deployment.
        model: what it runs; its tokenizer is read here too.
    """

    def __init__(self, handle: DeploymentHandle, model: ModelSpec) -> None:
        self._handle = handle
        self._model = model
        self._prompt = model.prompt()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Give the reply piece by piece in any case; closing the generator ends it.

        Raises:
            BackendError: the conversation does not fit, or the model refuses or fails.
        """
        from ray.serve.llm.openai_api_models import ChatCompletionRequest

        rendered = self._prompt.render(request)
        asked = ChatCompletionRequest.model_validate(self._fields(request, len(rendered.prompt_ids)))
        is_open = rendered.begins_in_thought
        response: Any = self._handle.options(stream=True).chat.remote(asked)
        last: TextDelta | None = None
        try:
            async for answer in response:
                for event in _events(answer):
                    piece = _piece(event)
                    if last is not None and piece.usage is not None:
                        last = replace(last, usage=piece.usage)
                    elif piece.finish_reason is not None:
                        last = piece  # Kept back: the usage comes in an event of its own.
                    elif piece.text:
                        yield replace(piece, begins_in_thought=is_open)
                        is_open = False
            if last is not None:
                yield replace(last, begins_in_thought=is_open)
        finally:
            response.cancel()

    def _fields(self, request: ChatRequest, num_prompt_tokens: int) -> dict[str, object]:
        sampling = request.sampling
        room = self._model.engine.max_model_len - num_prompt_tokens
        return {
            "model": self._model.id,
            "messages": self._prompt.messages(request),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # vLLM's server refuses a request for more than there is room for.
            "max_completion_tokens": min(sampling.max_tokens, room),
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "chat_template_kwargs": dict(self._model.template_arguments),
        }


def _events(answer: Any) -> Sequence[Mapping[str, Any]]:
    """Read what `chat` gives: lists of server-sent events, each as text, or one error as an object.

    Raises:
        BackendError: an error.
    """
    parts = answer if isinstance(answer, list) else [answer]
    events: list[Mapping[str, Any]] = []
    for part in parts:
        if not isinstance(part, str):
            code = getattr(getattr(part, "error", part), "code", 500)
            raise BackendError(
                "the model refuses the request" if code == 400 else "the model failed; try again",
                kind=_FAILURES.get(code, "unavailable"),
            )
        for line in part.split("\n\n"):
            content = line.removeprefix("data:").strip()
            if content and content != "[DONE]":
                events.append(json.loads(content))
    return events


def _piece(event: Mapping[str, Any]) -> TextDelta:
    if "error" in event:
        raise BackendError("the model failed; try again", kind="unavailable")
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
