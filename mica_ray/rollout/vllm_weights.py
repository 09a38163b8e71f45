"""Load new weights inside a running vLLM worker, as the extension that vLLM imports.

weights.py packs the buckets; vllm_engine.py pauses generation while it is loaded.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.error_lines import raised_as
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import WeightBucket, unpack_adapter, unpack_weights

if TYPE_CHECKING:
    import torch
    from vllm.config import ModelConfig
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner


class WeightReceiver:
    """Mixed into vLLM's worker, which has `model_runner`. Methods run between two steps."""

    model_runner: GPUModelRunner

    def receive_buckets(self, *buckets: WeightBucket) -> None:
        """Load the buckets of one version, in this process, into the model.

        Raises:
            EngineError: they belong to another model.
        """
        model, adapter = self.model_runner.get_model(), unpack_adapter(*buckets)
        if adapter is None:
            shapes = (zip(bucket.names, bucket.shapes, strict=True) for bucket in buckets)
            _check_same_model(model, dict(chain.from_iterable(shapes)))
            weights = unpack_weights(*buckets)
        else:
            # vLLM computes with the sum: it rejects adapters of this model's architecture.
            weights = adapter.merged(_stored_weights(self.model_runner.model_config))
        with raised_as(
            EngineError, "The weights were not loaded", "Start engine and learner from one policy."
        ):
            self.model_runner.reload_weights(weights_iterator=weights)
        _repack_tied_head(model)

    def check_incoming(self, names: list[str], shapes: list[list[int]]) -> None:
        """Check the layout of weights before any of them is sent.

        Raises:
            EngineError: the names or shapes belong to another model.
        """
        _check_same_model(
            self.model_runner.get_model(), dict(zip(names, (tuple(shape) for shape in shapes), strict=True))
        )

    def finish_incoming(self) -> None:
        """Make weights usable that arrived through vLLM's own transfer."""
        _repack_tied_head(self.model_runner.get_model())

    def receive_files(self, *paths: str) -> None:
        """Load buckets that `write_bucket` wrote in another process of this node."""
        self.receive_buckets(*(read_bucket(Path(path)) for path in paths))


def write_bucket(bucket: WeightBucket, path: Path) -> None:
    """Write a bucket to a file, because vLLM's calls between processes carry no arrays."""
    layout = repr((bucket.names, bucket.shapes, bucket.dtypes, bucket.lora_scale))
    np.savez(path, data=bucket.data, layout=np.array(layout))


def read_bucket(path: Path) -> WeightBucket:
    """Read a bucket that `write_bucket` wrote."""
    with np.load(path, allow_pickle=False) as parts:
        names, shapes, dtypes, lora_scale = literal_eval(str(parts["layout"]))
        return WeightBucket(names, shapes, dtypes, parts["data"], lora_scale)


def _stored_weights(config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of the model's folder, in the type in which the engine computes."""
    from safetensors.torch import load_file

    files = sorted(Path(config.model).glob("*.safetensors"))
    if not files:
        raise EngineError(
            f"{config.model} has no safetensors files to add an adapter to. Set learner.lora.push=merged."
        )
    for path in files:
        for name, tensor in load_file(path).items():
            yield name, tensor.to(config.dtype)


def _check_same_model(model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the weights cover the whole model; vLLM only logs missing parameters."""
    config = getattr(model, "config", None)
    layers = int(getattr(config, "num_hidden_layers", 0))
    held = {int(part) for name in shapes for part in name.split(".")[:-1] if part.isdigit()}
    if held != set(range(layers)):
        raise _another_model(f"they have {len(held)} layers, the engine's model has {layers}")
    embedding = shapes.get("model.embed_tokens.weight")
    expected = (int(getattr(config, "vocab_size", 0)), int(getattr(config, "hidden_size", 0)))
    if embedding is not None and embedding != expected:
        raise _another_model(f"their embedding has shape {embedding}, that of the engine's model {expected}")
    if not getattr(config, "tie_word_embeddings", False) and "lm_head.weight" not in shapes:
        raise _another_model("lm_head.weight is missing, and the engine's model does not tie its embeddings")


def _another_model(reason: str) -> EngineError:
    return EngineError(
        f"The weights belong to another model: {reason}. Start the engine and the learner from the same "
        "policy."
    )


def _repack_tied_head(model: torch.nn.Module) -> None:
    """Update the output head of a tied model from its new embedding.

    On CPUs vLLM keeps a packed copy of the head. A reload replaces the embedding but not this copy, because
    no tensor of the head arrives. Log probabilities would be wrong by whole nats, without an error.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or not getattr(model.config, "tie_word_embeddings", False):
        return
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.get_submodule("lm_head"), remove_weight=False)
