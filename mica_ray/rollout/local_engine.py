"""The policy as a transformers model in this process, for `--inline` runs and tests. No Ray.

Requests that wait at the same time share one batch. Equal requests in equal order produce equal bits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.error_lines import first_line, raised_as
from mica_ray.rollout.adapters.base_weights import BaseWeights
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, GeneratedChunk, reply_room
from mica_ray.rollout.local.logits import limited, nucleus, penalized, token_logprob
from mica_ray.rollout.weights import resolve, unpack_adapter, unpack_weights
from mica_ray.types import Generation, PolicyWeights, ReplyOptions, Sampling, TokenLogprob

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MAX_BATCH = 128
"""Default number of replies generated in one batch."""
_GATHERING_TICKS = 3
"""Iterations of the event loop to wait for more requests, so that dialogues in lockstep share a batch."""


@dataclass(slots=True, eq=False)
class _Request:
    """One reply being generated."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    reply: asyncio.Future[Generation]
    uniforms: torch.Tensor
    """[max_tokens] float64 in [0, 1), drawn in advance so that other rows cannot change this reply."""
    options: ReplyOptions
    top: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    """Of each token, if the options ask for it."""
    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    text: str | None = None
    """The text before a stop string; None unless one ended the reply."""
    finish_reason: Literal["stop", "length"] | None = None


class LocalEngine:
    """`PolicyEngine` over a model in this process.

    Consumes prompts, produces replies with the log probability of each sampled token under the distribution
    it was sampled from (temperature and top_p applied). Generation blocks the event loop. Finished replies
    leave the batch.

    Args:
        model: a causal language model; `load_weights` writes into it.
        template: defines the stop tokens and decodes the replies.
        context_length: tokens of prompt and reply together; None for the model's limit.
        max_batch: replies generated in one batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        template: ChatTemplate,
        *,
        context_length: int | None = None,
        max_batch: int = MAX_BATCH,
    ) -> None:
        limit = int(model.config.max_position_embeddings)
        if context_length is not None and context_length > limit:
            raise EngineError(
                f"context_length must be <= {limit}, the model's limit, got {context_length}. Lower it."
            )
        self._model = model.eval()
        self._template = template
        self._context_length = context_length or limit
        self._max_batch = max_batch
        self._pending: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None
        self._base = BaseWeights()
        self._version = -1  # Version 0 is loaded too: the folder may hold other weights than a resumed run.

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        template: ChatTemplate,
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        context_length: int | None = None,
        max_batch: int = MAX_BATCH,
    ) -> LocalEngine:
        """Load a model folder or hub id.

        Raises:
            EngineError: it cannot be loaded as a causal language model.
        """
        import torch
        from transformers import AutoModelForCausalLM

        problem = f"Policy {path} cannot be loaded as a causal language model"
        with raised_as(EngineError, problem, "Use a complete Hugging Face model folder or a hub id."):
            model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
            return cls(model, template, context_length=context_length, max_batch=max_batch)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply, in one batch with the other waiting requests.

        Raises:
            EngineError: the prompt does not fit the context, or the model failed.
        """
        return await self._request(prompt_ids, sampling, ReplyOptions.of(sampling)).reply

    async def stream(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        chunk_seconds: float | None,
        options: ReplyOptions | None = None,
    ) -> AsyncGenerator[GeneratedChunk, None]:
        """Sample one reply and yield it as one chunk: the event loop cannot send anything meanwhile.

        Raises:
            EngineError: as `generate` does, or the options have a schema, which needs vLLM.
        """
        if options is not None and options.schema is not None:
            raise EngineError("A reply with a JSON schema needs vLLM. Start the service with vLLM.")
        request = self._request(prompt_ids, sampling, options or ReplyOptions.of(sampling))
        reply = await request.reply
        yield GeneratedChunk(reply.text, len(reply.token_ids), reply.finish_reason, tuple(request.top))

    def _request(self, prompt_ids: Sequence[int], sampling: Sampling, options: ReplyOptions) -> _Request:
        """Add a request to those that wait."""
        import torch

        max_tokens = reply_room(prompt_ids, sampling, context_length=self._context_length)
        source = torch.Generator()
        if sampling.seed is None:
            source.seed()
        else:
            source.manual_seed(sampling.seed)
        request = _Request(
            tuple(prompt_ids),
            sampling,
            max_tokens,
            asyncio.get_running_loop().create_future(),
            torch.rand(max_tokens, generator=source, dtype=torch.float64),
            options,
        )
        self._pending.append(request)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return request

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Write new weights into the model. Loading a version twice does nothing.

        Raises:
            EngineError: the weights belong to another model.
        """
        import torch

        if weights.version == self._version:
            return
        parameters, buckets = dict(self._model.named_parameters()), resolve(weights)
        if (adapter := unpack_adapter(*buckets)) is not None:
            self._base.add(adapter, parameters)
            self._version = weights.version
            return
        received = dict(unpack_weights(*buckets))
        missing = sorted(parameters.keys() - received.keys())
        if missing:
            raise EngineError(
                f"Weights version {weights.version} belong to another model: {len(missing)} parameters are "
                f"missing, the first is {missing[0]}. Use the policy that the learner trains."
            )
        for name, parameter in parameters.items():
            if parameter.shape != received[name].shape:
                raise EngineError(
                    f"Weights version {weights.version} belong to another model: {name} has shape "
                    f"{tuple(received[name].shape)}, the engine's has {tuple(parameter.shape)}. Use the "
                    "policy that the learner trains."
                )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(received[name])
        self._base.clear()
        self._version = weights.version

    async def close(self) -> None:
        """Fail the requests that still wait."""
        for request in self._pending:
            if not request.reply.done():
                request.reply.set_exception(EngineError("The engine was closed."))
        self._pending.clear()

    async def _work(self) -> None:
        while self._pending:
            for _ in range(_GATHERING_TICKS):
                await asyncio.sleep(0)
            waiting = [request for request in self._pending if not request.reply.done()]
            batch, self._pending = waiting[: self._max_batch], waiting[self._max_batch :]
            if batch:
                self._answer(batch)

    def _answer(self, batch: list[_Request]) -> None:
        try:
            self._decode(batch)
        except (
            RuntimeError,
            LookupError,
            ValueError,
        ) as error:  # torch: memory, shapes, NaN, unknown tokens.
            for request in batch:
                request.reply.set_exception(EngineError(f"Generation failed: {first_line(error)}"))
            return
        for request in batch:
            assert request.finish_reason is not None
            request.reply.set_result(
                Generation(
                    prompt_ids=request.prompt_ids,
                    token_ids=tuple(request.token_ids),
                    logprobs=tuple(request.logprobs),
                    text=self._template.text(request.token_ids) if request.text is None else request.text,
                    finish_reason=request.finish_reason,
                    policy_version=self._version,
                )
            )

    def _decode(self, batch: list[_Request]) -> None:
        """Generate the tokens: one pass over the prompts, then token by token for unfinished rows."""
        import torch
        from transformers import DynamicCache

        device = self._model.device
        input_ids, attention = (
            part.to(device) for part in _left_padded([request.prompt_ids for request in batch])
        )
        positions = (attention.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.config)
        rows = batch
        with torch.inference_mode():
            while True:
                logits = (
                    self._model(
                        input_ids=input_ids,
                        attention_mask=attention,
                        position_ids=positions,
                        past_key_values=cache,
                        use_cache=True,
                        logits_to_keep=1,
                    )
                    .logits[:, -1]
                    .float()
                )
                tokens = self._sample(rows, logits)
                keep = [index for index, request in enumerate(rows) if request.finish_reason is None]
                if not keep:
                    return
                if len(keep) < len(rows):
                    kept = torch.tensor(keep, device=device)
                    cache.batch_select_indices(kept)
                    attention, positions, tokens = attention[kept], positions[kept], tokens[kept]
                    rows = [rows[index] for index in keep]
                input_ids = tokens.unsqueeze(1)
                attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
                positions = positions[:, -1:] + 1

    def _sample(self, rows: list[_Request], logits: torch.Tensor) -> torch.Tensor:
        """Draw one token per row and append it to the row.

        The draw inverts the cumulative distribution at the row's next uniform number, so a row's tokens
        depend only on its own seed and logits.
        """
        import torch

        temperature = torch.tensor([row.sampling.temperature for row in rows], device=logits.device)
        is_greedy = temperature == 0
        logits = penalized(logits, rows)
        scaled = limited(logits / torch.where(is_greedy, 1.0, temperature).unsqueeze(1), rows)
        top_p = torch.tensor([row.sampling.top_p for row in rows], device=logits.device)
        if bool((top_p < 1).any()):
            scaled = nucleus(scaled, top_p)
        logprobs = scaled.log_softmax(dim=-1)
        cumulative = logprobs.double().exp().cumsum(dim=-1)
        uniforms = torch.stack([row.uniforms[len(row.token_ids)] for row in rows]).to(logits.device)
        drawn = torch.searchsorted(
            cumulative, (uniforms * cumulative[:, -1]).unsqueeze(1), right=True
        ).squeeze(1)
        tokens = torch.where(is_greedy, scaled.argmax(dim=-1), drawn.clamp(max=logits.shape[1] - 1))
        chosen = logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)
        for index, row in enumerate(rows):
            if row.options.top_logprobs is not None:
                row.top.append(token_logprob(logprobs[index], int(tokens[index]), row.options.top_logprobs))
        for row, token, logprob in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            self._append(row, token, logprob)
        return tokens

    def _append(self, row: _Request, token: int, logprob: float) -> None:
        row.token_ids.append(token)
        row.logprobs.append(logprob)
        if token in self._template.stop_ids:
            row.finish_reason = "stop"
            return
        if row.sampling.stop:
            text = self._template.text(row.token_ids)
            ends = [text.index(stop) for stop in row.sampling.stop if stop in text]
            if ends:
                row.text, row.finish_reason = text[: min(ends)], "stop"
                return
        if len(row.token_ids) == row.max_tokens:
            row.finish_reason = "length"


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids [R, L] and attention mask [R, L], int64, left-padded with token 0."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    attention = torch.zeros(len(prompts), longest, dtype=torch.long)
    for index, prompt in enumerate(prompts):
        input_ids[index, longest - len(prompt) :] = torch.tensor(prompt)
        attention[index, longest - len(prompt) :] = 1
    return input_ids, attention
