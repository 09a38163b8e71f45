"""Bytes of training and sampling, as functions of a model's shape and of how the learner shards it.

processes.py adds them up per process. What was measured against them: experiments/plan_accuracy.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.head_logprobs import CHUNK_SCORES, GPU_CHUNK_SCORES
from mica_ray.launch.memory.model_shape import ModelShape

BYTES = {"float32": 4, "bfloat16": 2}
"""Bytes of a number by type."""
BUCKET_ELEMENTS = 500_000_000
"""Gradients that DeepSpeed collects before it reduces them (`reduce_bucket_size`, its default)."""
LIVE_ELEMENTS = 1_000_000_000
"""Weights that ZeRO 3 keeps gathered at a time (`max_live_parameters`, DeepSpeed's default)."""
_FP32 = 4
_CELL_BYTES = 4 + 4 + 4 + 4 + 1
"""Bytes of one token of a batch: its id, its turn, the engine's log probability, the advantage, the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How a learner keeps its numbers."""

    kind: str
    """"deepspeed", or "local" for the learner in one process."""
    ranks: int = 1
    zero_stage: int = 0
    dtype: str = "bfloat16"
    """Type of weights in forward and backward passes, and of the gradients that a backward pass makes."""
    is_on_gpu: bool = True

    @property
    def size(self) -> int:
        """Bytes of one weight."""
        return BYTES[self.dtype]

    @property
    def sums_stay(self) -> bool:
        """Whether DeepSpeed keeps a whole gradient in fp32 all the time."""
        return self.kind == "deepspeed" and self.zero_stage == 1 and self.dtype != "float32"

    @property
    def weight_share(self) -> float:
        """Fraction of the weights that a rank keeps: ZeRO 3 shards them."""
        return 1 / self.ranks if self.zero_stage == 3 else 1.0

    @property
    def optimizer_share(self) -> float:
        """Fraction of master weights and moments that a rank keeps: ZeRO 1 to 3 shard them."""
        return 1 / self.ranks if self.zero_stage else 1.0


def weight_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of the weights that a rank computes with.

        b P            ZeRO 0 to 2, and one process
        b P / N + b min(P, live)     ZeRO 3: the own shard, and what is gathered at a time

    with b bytes a weight. ZeRO 3 gathers layers ahead and releases them behind, up to `LIVE_ELEMENTS`.
    """
    whole = sharding.size * parameters
    if sharding.zero_stage < 3:
        return whole
    return whole / sharding.ranks + sharding.size * min(parameters, LIVE_ELEMENTS)


def master_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of the fp32 master weights, 4 P / N.

    In fp32 the learner in one process trains the weights themselves; DeepSpeed clones its partition.
    """
    if sharding.dtype == "float32" and (sharding.kind == "local" or sharding.zero_stage == 0):
        return 0.0
    return _FP32 * parameters * sharding.optimizer_share


def moment_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of AdamW's two moments in fp32, 8 P / N."""
    return 2 * _FP32 * parameters * sharding.optimizer_share


def sum_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of gradient sums that exist also between updates: 4 P for bf16 at ZeRO 1, else 0."""
    return _FP32 * parameters if sharding.sums_stay else 0.0


def gradient_bytes(parameters: int, shape: ModelShape | None, sharding: Sharding) -> float:
    """Return the bytes of the gradients at the end of the last backward pass, without `sum_bytes`.

        one process, ZeRO 0  4 P, in bf16 the sum in fp32
        ZeRO 1               4 P in fp32; in bf16 they are in `sum_bytes`
        ZeRO 2 and 3         4 P / N, and the bucket in which they are reduced

    Below ZeRO 2 in bf16 the gradient of one parameter at a time, at most of the embedding, comes on top, and
    at ZeRO 1 its copy in fp32. A bucket has at most `BUCKET_ELEMENTS` numbers. A GPU allocates it whole; of a
    CPU's only touched pages count, at most b P.
    """
    if sharding.zero_stage < 2:
        largest = 0 if shape is None else min(parameters, shape.head_parameters)
        if sharding.sums_stay:
            return float((sharding.size + _FP32) * largest)
        arriving = sharding.size * largest if sharding.dtype != "float32" else 0
        return float(_FP32 * parameters + arriving)
    bucket = BUCKET_ELEMENTS if sharding.is_on_gpu else min(parameters, BUCKET_ELEMENTS)
    return _FP32 * parameters / sharding.ranks + sharding.size * bucket


def reduce_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of the copy that DeepSpeed sums over the ranks: 4 P for bf16 at ZeRO 1, else 0."""
    return _FP32 * parameters if sharding.sums_stay and sharding.ranks > 1 else 0.0


def step_bytes(parameters: int, sharding: Sharding) -> float:
    """Return the bytes of gradients that an optimizer step needs, without `sum_bytes`.

        one process, ZeRO 0    4 P
        ZeRO 1, bf16           0
        otherwise              8 P / N: DeepSpeed copies the gradients of its share into one tensor

    The fused AdamW has no temporary values.
    """
    if sharding.sums_stay:
        return 0.0
    if sharding.kind == "local" or sharding.zero_stage == 0:
        return _FP32 * parameters
    return 2 * _FP32 * parameters / sharding.ranks


def layer_bytes(shape: ModelShape, dtype: str) -> int:
    """Return the bytes per token that the backward pass of one layer needs.

    What torch saves for it, with widths h (residual stream), q (queries), k (keys), f (MLP), H and K heads,
    and b bytes a number:

        two norms        bf16: 4 h (input in fp32) + 2 h (normalized) + 2 h (output), fp32: 4 h each; and the
                         reciprocal root, 4
        attention        b (q + k + k + q) + 4 H: queries, keys, values and output, and a normalizer per head
        norms of heads   Qwen3: bf16: 4 (q + k) + 2 (q + k), fp32: 4 (q + k) each; and 4 (H + K)
        MLP              4 b f: gate, its activation, up, and their product

    SDPA saves no [L, L] scores. Rotary embeddings save nothing of the token. tests/launch/memory compare this
    with what torch saves for models of transformers, to the byte.
    """
    size = BYTES[dtype]
    per_norm = 8 if dtype == "bfloat16" else 12
    query, key = shape.query_width, shape.key_width
    count = 2 * (per_norm * shape.hidden + 4)
    count += 2 * size * (query + key) + 4 * shape.heads
    count += 4 * size * shape.intermediate
    if shape.has_query_key_norms:
        count += (per_norm - size) * (query + key) + 4 * (shape.heads + shape.kv_heads)
    return count


def activation_bytes(shape: ModelShape, tokens: int, dtype: str, *, checkpointing: bool) -> float:
    """Return the bytes of activations at the peak of one forward and backward pass.

        without checkpointing    tokens (layers * layer + rest)
        with checkpointing       tokens (layers b h + layer + rest)

    With checkpointing each layer keeps its input, and one layer at a time is computed again. The rest: the
    last norm, and the gradients of the MLP's product, gate and up (3 b f) and of the residual stream (2 b h)
    while a layer's backward pass runs.

    Args:
        shape: of the model.
        tokens: padded tokens of one micro-batch.
        dtype: of the activations.
        checkpointing: whether activations are computed again in the backward pass.
    """
    size, layer = BYTES[dtype], layer_bytes(shape, dtype)
    rest = (12 + 2 * size) * shape.hidden + 3 * size * shape.intermediate
    kept = shape.layers * size * shape.hidden + layer if checkpointing else shape.layers * layer
    return float(tokens * (kept + rest))


def head_bytes(shape: ModelShape, tokens: int, dtype: str, *, is_on_gpu: bool) -> float:
    """Return the bytes of the head in chunks (mica_ray/head_logprobs.py), at the start of a backward pass.

        b h n + 4 h n + 4 n     hidden states of n trained tokens, their gradient in fp32, the normalizers
        b V h                   gradient of the head
        (b + 4 + 4) C           a chunk of scores: products, fp32, their gradient

    C is `CHUNK_SCORES`, or `GPU_CHUNK_SCORES`. Whole logits would take about 16 V n instead.

    Args:
        shape: of the model.
        tokens: trained tokens of one micro-batch; all tokens are the upper limit.
        dtype: of weights and hidden states.
        is_on_gpu: whether it runs on a GPU, in larger chunks.
    """
    size = BYTES[dtype]
    chunk = GPU_CHUNK_SCORES if is_on_gpu else CHUNK_SCORES
    states = tokens * ((size + _FP32) * shape.hidden + _FP32)
    return states + size * shape.head_parameters + (size + 2 * _FP32) * chunk


def cache_bytes(shape: ModelShape, tokens: int, dtype: str) -> int:
    """Return the bytes of the key-value cache of that many tokens: 2 layers k b per token."""
    return 2 * shape.layers * shape.key_width * BYTES[dtype] * tokens


def batch_bytes(rows: int, length: int) -> int:
    """Return the bytes of a batch [rows, length] of training rows."""
    return rows * length * _CELL_BYTES


def bucket_bytes(parameters: int, dtype: str) -> int:
    """Return the bytes of all weights packed for the engines, b P."""
    return BYTES[dtype] * parameters


def checkpoint_bytes(parameters: int, dtype: str, *, kind: str) -> int:
    """Return the bytes of one checkpoint.

    one process, fp32    4 P + 8 P          weights and moments
    otherwise            b P + 4 P + 8 P    weights, master weights and moments
    """
    size = BYTES[dtype]
    has_masters = kind != "local" or dtype != "float32"
    return parameters * (size + 8 + (4 if has_masters else 0))
