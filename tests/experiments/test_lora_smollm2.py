"""Adapter against full training: what the arms are, which runs are missing, and what a push weighs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from experiments.lora_smollm2 import ARMS, missing_runs, push_bytes


def test_arms_differ_only_in_adapter_and_learning_rate() -> None:
    full, lora = ARMS["full"], ARMS["lora"]
    assert lora.learner.lora is not None and lora.learner.lora.rank == 16
    learner = replace(lora.learner, lora=None, learning_rate=full.learner.learning_rate)
    assert lora.model_copy(update={"name": "full", "learner": learner}) == full


def test_finished_runs_are_left_out_and_begun_ones_are_resumed(tmp_path: Path) -> None:
    (tmp_path / "full-seed0").mkdir()
    (tmp_path / "full-seed0" / "summary.json").write_text("{}")
    (tmp_path / "lora-seed0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "lora-seed0" / "config.json").write_text("{}")
    resumed, *started = missing_runs("model", tmp_path, range(2), ["loop.num_steps=1"])
    assert resumed == ["train", "--resume", str(tmp_path / "lora-seed0")]
    assert [command[1].rpartition(":")[2] for command in started] == ["full", "lora"]
    for command in started:
        assert {"seed=1", "policy=model", "loop.num_steps=1"} <= set(command)


def test_push_counts_tensors_and_no_header(tmp_path: Path) -> None:
    # 6 numbers of 2 bytes and 5 of 4.
    tensors = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(5)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    assert push_bytes(tmp_path) == 32
