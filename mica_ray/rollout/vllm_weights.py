"""New weights for a running vLLM: what its worker does. Loaded by vLLM itself, as its worker extension.

The neighbours are `weights.py`, which packs the bucket, and `vllm_engine.py`, which pauses generation around
it.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import WeightBucket, unpack_weights

if TYPE_CHECKING:
    import torch
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner


class WeightReceiver:
    """Mixed into vLLM's worker, where `model_runner` is its own. Every method runs between two steps."""

    model_runner: GPUModelRunner

    def receive_bucket(self, bucket: WeightBucket) -> None:
        """Put a bucket of this process into the model.

        Raises:
            EngineError: the bucket is another model's.
        """
        model = self.model_runner.get_model()
        _check_same_model(model, dict(zip(bucket.names, bucket.shapes, strict=True)))
        self.model_runner.reload_weights(weights_iterator=unpack_weights(bucket))
        _repack_tied_head(model)

    def check_incoming(self, names: list[str], shapes: list[list[int]]) -> None:
        """Refuse weights of another model before any of them is on its way.

        Raises:
            EngineError: the names or shapes are another model's.
        """
        _check_same_model(
            self.model_runner.get_model(), dict(zip(names, (tuple(shape) for shape in shapes), strict=True))
        )

    def finish_incoming(self) -> None:
        """Make weights usable that came by vLLM's own transfer."""
        _repack_tied_head(self.model_runner.get_model())

    def receive_file(self, path: str) -> None:
        """Put a bucket into the model that `write_bucket` wrote, in another process of this node."""
        self.receive_bucket(read_bucket(Path(path)))


def write_bucket(bucket: WeightBucket, path: Path) -> None:
    """Write a bucket for another process of this node: vLLM's calls between processes carry no arrays."""
    layout = repr((bucket.names, bucket.shapes, bucket.dtypes))
    np.savez(path, data=bucket.data, layout=np.array(layout))


def read_bucket(path: Path) -> WeightBucket:
    """Read what `write_bucket` wrote."""
    with np.load(path, allow_pickle=False) as parts:
        names, shapes, dtypes = literal_eval(str(parts["layout"]))
        return WeightBucket(names, shapes, dtypes, parts["data"])


def _check_same_model(model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that would leave parameters at their old values: vLLM only logs that."""
    config = getattr(model, "config", None)
    layers = int(getattr(config, "num_hidden_layers", 0))
    held = {int(part) for name in shapes for part in name.split(".")[:-1] if part.isdigit()}
    if held != set(range(layers)):
        raise EngineError(f"weights for {len(held)} layers, the engine's model has {layers}: another model's")
    embedding = shapes.get("model.embed_tokens.weight")
    expected = (int(getattr(config, "vocab_size", 0)), int(getattr(config, "hidden_size", 0)))
    if embedding is not None and embedding != expected:
        raise EngineError(
            f"embedding of shape {embedding}, the engine's model has {expected}: another model's"
        )
    if not getattr(config, "tie_word_embeddings", False) and "lm_head.weight" not in shapes:
        raise EngineError(
            "weights lack lm_head.weight, and the engine's model does not tie its embeddings: another model's"
        )


def _repack_tied_head(model: torch.nn.Module) -> None:
    """Make the output head of a tied model follow its embedding.

    On CPUs vLLM keeps a packed copy of the head. A reload replaces the embedding and, since no tensor of the
    head's own arrives, leaves that copy at the old weights: log probabilities off by whole nats, and no
    error.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or not getattr(model.config, "tie_word_embeddings", False):
        return
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.get_submodule("lm_head"), remove_weight=False)
