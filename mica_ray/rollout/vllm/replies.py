"""Between our types and vLLM's: the parameters of a reply, and what vLLM returns for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mica_ray.chat.model import JsonSchema
from mica_ray.rollout.engine import GeneratedChunk
from mica_ray.rollout.vllm.stepping import bad_ending
from mica_ray.types import Generation, ReplyOptions, Sampling, TokenLogprob

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams


def sampling_params(
    sampling: Sampling, stop_ids: list[int], max_tokens: int, schema: JsonSchema | None
) -> SamplingParams:
    """Return vLLM's parameters of a whole reply.

    Args:
        sampling: how to sample.
        stop_ids: tokens that end the reply.
        max_tokens: longest reply.
        schema: JSON schema of the reply; None for free text.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        presence_penalty=sampling.presence_penalty,
        seed=sampling.seed,
        max_tokens=max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=stop_ids,
        logprobs=0,  # Only that of the sampled token.
        structured_outputs=None if schema is None else _structure(schema),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _structure(schema: JsonSchema) -> StructuredOutputsParams:
    from vllm.sampling_params import StructuredOutputsParams

    # vLLM has a grammar of its own for any object.
    is_any = dict(schema) == {"type": "object"}
    return StructuredOutputsParams(json_object=True) if is_any else StructuredOutputsParams(json=dict(schema))


def set_options(params: SamplingParams, options: ReplyOptions) -> None:
    """Set the options of a reply, except its schema."""
    params.presence_penalty = options.presence_penalty
    params.frequency_penalty = options.frequency_penalty
    params.repetition_penalty = options.repetition_penalty
    params.logit_bias = dict(options.logit_bias) or None
    params.logprobs = options.top_logprobs
    if params.temperature > 0:  # vLLM samples a greedy reply without limits.
        params.top_k, params.min_p = options.top_k, options.min_p


def stream_in_chunks(params: SamplingParams, tokens_per_chunk: int) -> None:
    """Make a reply come in chunks of that many tokens."""
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.DELTA
    params.stream_interval = tokens_per_chunk


def chunk_of(output: RequestOutput, num_top: int | None) -> GeneratedChunk:
    """Return what vLLM has generated since its last output.

    Args:
        output: vLLM's.
        num_top: most likely tokens to return with each sampled one; None for no log probabilities.

    Raises:
        EngineError: vLLM ended the reply for another reason than a stop or the length.
    """
    reply = output.outputs[0]
    if output.finished and reply.finish_reason not in ("stop", "length"):
        raise bad_ending(repr(reply.finish_reason))
    return GeneratedChunk(
        text=reply.text,
        num_tokens=len(reply.token_ids),
        finish_reason="length" if reply.finish_reason == "length" else "stop" if output.finished else None,
        logprobs=() if num_top is None else _logprobs(reply, num_top),
    )


def _logprobs(reply: CompletionOutput, num_top: int) -> tuple[TokenLogprob, ...]:
    found: list[TokenLogprob] = []
    for token, values in zip(reply.token_ids, reply.logprobs or (), strict=True):
        step = values or {}
        # vLLM adds the sampled token to the most likely ones if it is not one of them.
        ranked = sorted(step.items(), key=lambda entry: entry[1].logprob, reverse=True)[:num_top]
        top = tuple((other, value.logprob) for other, value in ranked)
        found.append(TokenLogprob(token, step[token].logprob, top))
    return tuple(found)


def generation_of(output: RequestOutput, prompt_ids: tuple[int, ...], version: int) -> Generation:
    """Return a whole reply.

    Raises:
        EngineError: vLLM ended it for another reason than a stop or the length.
    """
    reply = output.outputs[0]
    if reply.finish_reason not in ("stop", "length") or reply.logprobs is None:
        raise bad_ending(repr(reply.finish_reason))
    token_ids = tuple(reply.token_ids)
    return Generation(
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=tuple(
            (step or {})[token].logprob for step, token in zip(reply.logprobs, token_ids, strict=True)
        ),
        text=reply.text,
        finish_reason="stop" if reply.finish_reason == "stop" else "length",
        policy_version=version,
    )
