"""The benchmark of an update compares what it says: gradients of equal losses, and operations by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.bench_update import (
    gradient_difference,
    token_rows,
    useful_operations,
    whole_logprobs,
    worker_parts,
)
from tests.tiny_policy import VOCABULARY, write_tiny_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def test_names_of_workers_are_read() -> None:
    found = [worker_parts(name) for name in ("matmul", "update:whole", "head:trl:1024")]
    assert found == [("matmul", "", 0), ("update", "whole", 0), ("head", "trl", 1024)]


def test_two_fifths_of_the_tokens_are_trained() -> None:
    _, mask = token_rows(VOCABULARY)
    assert mask.shape == (2, 1024)
    assert float(mask.float().mean()) == pytest.approx(0.4, abs=0.005)


def test_gradient_without_logits_is_that_with_logits(policy: Path) -> None:
    # fp32; the positions beyond the model's 256 are computed by both forms alike.
    assert gradient_difference(policy) < 1e-5


def test_whole_logprobs_by_hand() -> None:
    # Odds 1 : 3 after column 0, even after column 1, which is not trained.
    logits = torch.log(torch.tensor([[[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]]]))
    mask = torch.tensor([[False, True, False]])
    found = whole_logprobs(logits, torch.tensor([[0, 1, 1]]), mask)
    torch.testing.assert_close(found.exp(), torch.tensor([[1.0, 0.75, 1.0]]))


def test_useful_operations_by_hand(policy: Path) -> None:
    # Per layer: q 64 x 64, k and v 64 x 32, o 64 x 64, three matrices 64 x 128, norms 2 x 64 and 2 x 32.
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64 + 2 * 32
    body = 2 * layer + 64
    trained = int(token_rows(VOCABULARY)[1][:, 1:].sum())
    assert useful_operations(policy) == 8 * (body * 2 * 1024 + VOCABULARY * 64 * trained)
