"""Does the learner compute on this GPU what it computes on a CPU, how fast, and with the planned memory?

Command:   python experiments/gpu_check.py --json FILE            (--tiny: a small model on the CPU, seconds)
Time:      at most 8 minutes on one GPU; a part that would start later is skipped
Expected:  log probabilities: difference of fp32 at most 1e-3 nats; peak memory over plan 0.85 to 1.15
Needs:     torch and transformers; peft for LoRA. Reports which of DeepSpeed, Ray and vLLM can be imported

The 8B model has random weights in the shape of Qwen3-8B and is trained in bf16 with AdamW in bf16, which fits
one GPU of 80 GB; on a smaller one its layers are cut until the plan fits. No download is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from mica_ray.files import write_json
from mica_ray.launch.memory import formulas
from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from mica_ray.training.logprob_model import return_logprobs

LIMIT_SECONDS = 8 * 60.0
RESERVE_SECONDS = 60.0
"""A part is skipped if less time is left."""
SPARE_BYTES = 3e9
"""Of the GPU's memory: CUDA context, fragments of the allocator."""
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA_RANK = 16
OPTIONAL = ("peft", "deepspeed", "ray", "vllm")
Figures = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What to measure, and on which device."""

    device: torch.device
    small: Qwen3Config
    """Model whose log probabilities are compared with the CPU's."""
    large: Qwen3Config
    """Model whose update is measured."""
    rows: int
    length: int
    steps: int
    """Optimizer steps that are timed, after one that warms up."""
    matmul_size: int


def qwen3(
    hidden: int, intermediate: int, layers: int, heads: int, *, vocabulary: int, head: int
) -> Qwen3Config:
    """Return a configuration of Qwen3 with untied embeddings and four query heads per key."""
    return Qwen3Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 4), head_dim=head,
        tie_word_embeddings=False, max_position_embeddings=40_960,
    )  # fmt: skip


def full_setup(device: torch.device) -> Setup:
    """Return the check of a GPU: Qwen3-8B, two rows of 4,096 tokens."""
    return Setup(
        device=device,
        small=qwen3(1024, 3072, 8, 16, vocabulary=151_936, head=128),
        large=qwen3(4096, 12_288, 36, 32, vocabulary=151_936, head=128),
        rows=2,
        length=4096,
        steps=3,
        matmul_size=8192,
    )


def tiny_setup(device: torch.device) -> Setup:
    """Return a check that takes seconds on a CPU."""
    config = qwen3(64, 128, 2, 4, vocabulary=512, head=32)
    return Setup(device=device, small=config, large=config, rows=2, length=64, steps=1, matmul_size=128)


def shape_of(config: Qwen3Config) -> ModelShape:
    """Return the shape of a configuration."""
    shape = read_shape(config.to_dict())
    assert shape is not None, "Qwen3 is a dense decoder"
    return shape


def random_model(
    config: Qwen3Config, device: torch.device, dtype: torch.dtype, *, seed: int = 0
) -> PreTrainedModel:
    """Return a model with random weights that was made on the device, without a copy on the CPU."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    finally:
        torch.set_default_dtype(before)
    model.config.use_cache = False
    return model


def token_rows(setup: Setup, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and the mask of trained tokens, [rows, length]; two fifths are trained."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocabulary, (setup.rows, setup.length), generator=generator)
    return ids, (torch.arange(setup.length) % 10 >= 6).repeat(setup.rows, 1)


def logprob_agreement(setup: Setup) -> Figures:
    """Compare with the CPU in fp32: log probabilities on the device in fp32 and bf16, and bf16's gradient."""
    config = setup.small
    cpu = random_model(config, torch.device("cpu"), torch.float32).eval()
    length = min(setup.length, 512)
    ids, mask = token_rows(replace(setup, length=length), config.vocab_size)
    state = cpu.state_dict()
    figures: dict[str, float | str | None] = {}
    return_logprobs(cpu)
    with torch.no_grad():
        expected = cpu(ids, mask, 1.0)[mask]
    gradients: dict[str, list[torch.Tensor]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = random_model(config, setup.device, dtype).eval()
        model.load_state_dict(state)
        return_logprobs(model)
        values = model(ids.to(setup.device), mask.to(setup.device), 1.0)
        values.sum().backward()
        gradients[name] = [weight.grad.float() for weight in model.parameters() if weight.grad is not None]
        difference = (values.detach().cpu()[mask] - expected).abs()
        figures[f"{name}_difference_mean"] = float(difference.mean())
        figures[f"{name}_difference_max"] = float(difference.max())
    pairs = list(zip(gradients["bf16"], gradients["fp32"], strict=True))
    error = sum(float((rounded - exact).square().sum()) for rounded, exact in pairs)
    size = sum(float(exact.square().sum()) for _, exact in pairs)
    figures["bf16_gradient_difference"] = (error / size) ** 0.5
    return figures


def matmul_peak(setup: Setup) -> float:
    """Return the operations per second of a product of square bf16 matrices, the best of ten."""
    size = setup.matmul_size
    first, second = (torch.randn(size, size, device=setup.device, dtype=torch.bfloat16) for _ in range(2))
    best = min(_seconds(setup.device, lambda: first @ second) for _ in range(10))
    return 2 * size**3 / best


def planned_bytes(setup: Setup, config: Qwen3Config, *, trained: int | None = None) -> float:
    """Return the planned peak of an update in bf16 with AdamW's moments in bf16.

    Args:
        setup: rows and their length.
        config: of the model.
        trained: trainable parameters; None for all.
    """
    shape = shape_of(config)
    tokens = setup.rows * setup.length
    count = shape.parameters if trained is None else trained
    states = 2.0 * shape.parameters + 2.0 * 3 * count
    activations = formulas.activation_bytes(shape, tokens, "bfloat16", checkpointing=True)
    backward = activations + formulas.head_bytes(
        shape, tokens * 2 // 5, "bfloat16", is_on_gpu=setup.device.type == "cuda"
    )
    if trained is not None and trained < shape.parameters:
        backward -= 2.0 * shape.head_parameters  # A frozen head has no gradient.
    return states + backward


def fitting_config(setup: Setup, memory: float) -> Qwen3Config:
    """Return the large configuration with as many of its layers as the plan has room for."""
    config = setup.large
    while config.num_hidden_layers > 1 and planned_bytes(setup, config) > memory - SPARE_BYTES:
        fewer = config.to_dict() | {"num_hidden_layers": config.num_hidden_layers - 1, "layer_types": None}
        config = Qwen3Config(**fewer)
    return config


def useful_operations(setup: Setup, shape: ModelShape, trained_tokens: int) -> float:
    """Return the operations of an update with checkpointing.

    Eight per weight and token: forward, recomputation, and twice the forward for the gradients; the same for
    the head on trained tokens. Attention: 4 q L / 2 per token and layer in the forward pass, 4 times in all.
    """
    tokens = setup.rows * setup.length
    weights = shape.layers * shape.layer_parameters
    attention = 4 * 2 * shape.query_width * setup.length * shape.layers
    return tokens * (8.0 * weights + attention) + 8.0 * shape.head_parameters * trained_tokens


def update_figures(setup: Setup, peak: float, *, lora: bool) -> Figures:
    """Measure updates of the large model: tokens per second, share of the peak, memory against the plan."""
    memory = _total_memory(setup.device)
    config = fitting_config(setup, memory) if memory is not None else setup.large
    shape = shape_of(config)
    model: Any = random_model(config, setup.device, torch.bfloat16)
    return_logprobs(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    if lora:
        model = _with_lora(model)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = sum(weight.numel() for weight in weights)
    optimizer = torch.optim.AdamW(weights, lr=1e-6, fused=True)  # Without temporary values.
    ids, mask = (tensor.to(setup.device) for tensor in token_rows(setup, config.vocab_size))

    def update() -> None:
        logprobs = model(ids, mask, 1.0)
        (-logprobs.sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    update()
    _reset_peak(setup.device)
    seconds = min(_seconds(setup.device, update) for _ in range(setup.steps))
    planned, measured = planned_bytes(setup, config, trained=count), _peak_memory(setup.device)
    operations = useful_operations(setup, shape, int(mask[:, 1:].sum()))
    return {
        "parameters": float(shape.parameters),
        "layers": float(config.num_hidden_layers),
        "trained_parameters": float(count),
        "update_seconds": seconds,
        "tokens_per_second": setup.rows * setup.length / seconds,
        # With LoRA two of the eight operations, the gradients of frozen weights, are not needed.
        "peak_share": operations * (0.75 if lora else 1.0) / seconds / peak,
        "planned_gib": planned / 2**30,
        "measured_gib": None if measured is None else measured / 2**30,
        "memory_ratio": None if measured is None else measured / planned,
    }


def check_device(setup: Setup, *, seconds: float = LIMIT_SECONDS) -> dict[str, Figures]:
    """Run all parts within a time limit; a part that fails or comes too late says so in its figures."""
    start = time.monotonic()
    figures: dict[str, Figures] = {"machine": _machine(setup.device)}
    peak = matmul_peak(setup)
    figures["matmul"] = {"bf16_tflops": peak / 1e12}
    parts: dict[str, Callable[[], Figures]] = {
        "log probabilities": lambda: logprob_agreement(setup),
        "update": lambda: update_figures(setup, peak, lora=False),
        "update with LoRA": lambda: update_figures(setup, peak, lora=True),
    }
    for name, part in parts.items():
        if seconds - (time.monotonic() - start) < min(RESERVE_SECONDS, seconds / 2):
            figures[name] = {"skipped": "no time is left"}
            continue
        if "LoRA" in name and not _is_installed("peft"):
            figures[name] = {"skipped": "peft is not installed"}
            continue
        try:
            figures[name] = part()
        except (
            RuntimeError,
            ValueError,
        ) as error:  # torch's errors of memory and kernels; the rest still runs.
            figures[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        _free(setup.device)
    figures["time"] = {"seconds": time.monotonic() - start}
    return figures


def figures_table(figures: Mapping[str, Figures]) -> Table:
    """Return all figures as a table."""
    table = Table("part", "measure", "value")
    for part, values in figures.items():
        for name, value in values.items():
            table.add_row(part, name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _with_lora(model: PreTrainedModel) -> torch.nn.Module:
    """Freeze the model and train adapters; their wrapped modules keep the model's own forward."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=list(LORA_TARGETS))
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model.enable_input_require_grads()
    return model


def _machine(device: torch.device) -> Figures:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    total = _total_memory(device)
    return {
        "device": name,
        "memory_gib": None if total is None else total / 2**30,
        "torch": torch.__version__,
        **{package: "yes" if _is_installed(package) else "no" for package in OPTIONAL},
    }


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _seconds(device: torch.device, call: Callable[[], object]) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _total_memory(device: torch.device) -> float | None:
    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> float | None:
    return float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    """Check the GPU, or with --tiny the CPU; print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--tiny", action="store_true", help="a small model on the CPU")
    parser.add_argument("--seconds", type=float, default=LIMIT_SECONDS, help="time limit")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU. Check the driver and torch's build, or use --tiny.")
    setup = tiny_setup(torch.device("cpu")) if options.tiny else full_setup(torch.device("cuda"))
    figures = check_device(setup, seconds=options.seconds)
    write_json(options.json, figures)
    Console().print(figures_table(figures))


if __name__ == "__main__":
    main()
