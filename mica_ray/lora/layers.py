"""The adapter inside a model in training: `peft` puts it beside the linear layers.

Names are those of checkpoints: without the parts that peft adds to names of modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

from mica_ray.error_lines import raised_as
from mica_ray.lora.adapter import LoraError, merged_weight
from mica_ray.lora.config import LoraConfig

if TYPE_CHECKING:
    import torch
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel

    Whole = Callable[[Sequence[torch.nn.Parameter]], AbstractContextManager[object]]

_NAME = "default"
"""peft's name of the only adapter."""
_BASE = ".base_layer."
"""In names of parameters, where peft wraps a layer."""
_SEED = 0
"""Of the random matrices A, so that all ranks start from the same ones."""


def add_adapter(model: PreTrainedModel, config: LoraConfig) -> None:
    """Freeze the model and put a new adapter beside its target layers, in the type of their weights.

    The model's outputs do not change, because B is 0.

    Raises:
        LoraError: a target matches no linear layer of the model, or is its head.
    """
    import peft
    import torch

    _check_targets(model, config.targets)
    model.requires_grad_(False)
    with (
        torch.random.fork_rng(devices=[]),
        raised_as(LoraError, "peft refuses the adapter", "Check targets."),
    ):
        torch.manual_seed(_SEED)
        settings = peft.LoraConfig(
            r=config.rank,
            # An int in its signature, but a plain factor.
            lora_alpha=cast(int, config.alpha),
            target_modules=list(config.targets),
            lora_dropout=0.0,
            bias="none",
        )
        peft.inject_adapter_in_model(settings, model, adapter_name=_NAME)
    # peft keeps the adapter of a bf16 model in fp32; both learners have their own fp32 masters.
    for _, parameter in adapter_parameters(model):
        parameter.data = parameter.data.to(model.dtype)


def adapter_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the matrices of the adapter by checkpoint name: LAYER.lora_A.weight and LAYER.lora_B.weight."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name.replace(f".{_NAME}.", "."), parameter


def merged_parameters(
    model: torch.nn.Module, whole: Whole = lambda parameters: nullcontext()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all parameters of the model by checkpoint name, with the adapter added to its layers' weights.

    Args:
        model: with an adapter.
        whole: makes parameters whole while their tensors are used; needed where they are shards.
    """
    layers = _lora_layers(model)
    for name, parameter in model.named_parameters():
        owner, is_wrapped, part = name.partition(_BASE)
        if parameter.requires_grad:
            continue
        if not is_wrapped or part != "weight":
            with whole([parameter]):
                yield f"{owner}.{part}" if is_wrapped else name, parameter.detach()
            continue
        layer = layers[owner]
        a, b = (cast("torch.nn.Parameter", side[_NAME].weight) for side in (layer.lora_A, layer.lora_B))
        with whole([parameter, a, b]):
            merged = merged_weight(parameter.detach(), a.detach(), b.detach(), layer.scaling[_NAME])
        yield f"{owner}.weight", merged


@contextmanager
def base_model(model: torch.nn.Module) -> Iterator[None]:
    """Switch the adapter off: inside the block the model is the one that training started from."""
    layers = _lora_layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _lora_layers(model: torch.nn.Module) -> dict[str, LoraLayer]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _check_targets(model: PreTrainedModel, targets: Sequence[str]) -> None:
    import torch

    modules, head = dict(model.named_modules()), model.get_output_embeddings()
    linear = [name for name, module in modules.items() if isinstance(module, torch.nn.Linear)]
    for target in targets:
        matched = [name for name in modules if name == target or name.endswith(f".{target}")]
        if any(modules[name] is head for name in matched):
            raise LoraError(
                f"learner.lora.targets: {target} is the head of {type(model).__name__}, which cannot have an "
                "adapter. Remove it."
            )
        if not set(matched).intersection(linear):
            known = sorted({name.split(".")[-1] for name in linear if modules[name] is not head})
            raise LoraError(
                f"learner.lora.targets: {type(model).__name__} has no linear layer {target!r}. Use some of "
                f"{', '.join(known)}."
            )
