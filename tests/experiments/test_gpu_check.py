"""The check of a GPU runs on a CPU with a tiny model, and its plan and operations are right by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.gpu_check import (
    check_device,
    fitting_config,
    full_setup,
    matmul_peak,
    planned_bytes,
    shape_of,
    tiny_setup,
    token_rows,
    useful_operations,
)
from mica_ray.files import read_json_object

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    file = tmp_path_factory.mktemp("check") / "figures.json"
    command = [sys.executable, "experiments/gpu_check.py", "--tiny", "--json", str(file)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    return read_json_object(file)


def test_cpu_agrees_with_itself_and_bf16_rounds(figures: dict[str, dict[str, float]]) -> None:
    found = figures["log probabilities"]
    assert found["fp32_difference_max"] < 1e-5
    # bf16 has 8 bits: log probabilities of about -6 nats are off by thousandths, gradients by percents.
    assert 1e-5 < found["bf16_difference_max"] < 0.1
    assert 1e-4 < found["bf16_gradient_difference"] < 0.1


def test_updates_are_measured_with_and_without_lora(figures: dict[str, dict[str, float]]) -> None:
    whole, lora = figures["update"], figures["update with LoRA"]
    assert whole["trained_parameters"] == whole["parameters"] == lora["parameters"]
    # Rank 16 on the seven matrices of two layers: 16 x (inputs + outputs) each.
    # q 64 + 128, k and v 64 + 32, o 128 + 64, gate and up 64 + 128, down 128 + 64.
    assert lora["trained_parameters"] == 2 * 16 * (192 + 2 * 96 + 192 + 3 * 192)
    for part in (whole, lora):
        assert part["tokens_per_second"] == pytest.approx(2 * 64 / part["update_seconds"])
        assert 0 < part["peak_share"] < 1
        assert part["measured_gib"] is None  # A CPU has no allocator that counts.


def test_part_without_time_is_skipped() -> None:
    assert check_device(tiny_setup(CPU), seconds=0.0)["update"] == {"skipped": "no time is left"}


def test_two_fifths_of_the_tokens_are_trained() -> None:
    ids, mask = token_rows(tiny_setup(CPU), 512)
    assert ids.shape == mask.shape == (2, 64)
    # Six full periods of ten, and columns 60 to 63, which are not trained.
    assert int(mask.sum()) == 2 * 6 * 4


def test_plan_of_the_8b_model_by_hand() -> None:
    setup = full_setup(CPU)
    count = shape_of(setup.large).parameters
    assert count == 8_190_735_360
    # Weights, gradients, two moments of 2 bytes; 8,192 tokens of 649,512 bytes with checkpointing; the head
    # for 3,276 tokens: 6 x 4,096 + 4 each, gradient 2 x 151,936 x 4,096, chunk 10 x 2^21.
    backward = 8192 * 649_512 + 3276 * 24_580 + 2 * 151_936 * 4096 + 10 * 2**21
    assert planned_bytes(setup, setup.large) == 8 * count + backward
    # With LoRA only the adapters have gradients and moments, and the head has none.
    lora = 43_646_976
    expected = 2 * count + 6 * lora + backward - 2 * 151_936 * 4096
    assert planned_bytes(setup, setup.large, trained=lora) == expected


def test_smaller_gpus_get_fewer_layers() -> None:
    setup = full_setup(CPU)
    assert fitting_config(setup, 150e9).num_hidden_layers == 36
    smaller = fitting_config(setup, 40e9)
    assert 1 < smaller.num_hidden_layers < 36
    assert planned_bytes(setup, smaller) <= 37e9
    assert fitting_config(setup, 0.0).num_hidden_layers == 1


def test_operations_by_hand() -> None:
    setup = tiny_setup(CPU)
    shape = shape_of(setup.large)
    # Per layer: q and o 64 x 128, k and v 64 x 32, MLP 3 x 64 x 128, norms 2 x 64 and 2 x 32.
    layer = 2 * 64 * 128 + 2 * 64 * 32 + 3 * 64 * 128 + 192
    # Attention 8 x 128 x 64 per token and layer; 50 trained tokens pass the head of 512 x 64.
    expected = 128 * (8 * 2 * layer + 8 * 128 * 64 * 2) + 8 * 512 * 64 * 50
    assert useful_operations(setup, shape, 50) == expected


def test_peak_is_operations_over_time() -> None:
    assert matmul_peak(tiny_setup(CPU)) > 0
