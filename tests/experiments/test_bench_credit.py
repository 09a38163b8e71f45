"""The bench of kernels compares like with like, and the adapter for peers reads turns out of their tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit.oracle.mistaken import TokenRecursion
from mica_ray.types import TurnRewards

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))  # as when the script is run
bench: Any = import_module("bench_credit")
peers: Any = import_module("credit_peers")


def test_bench_writes_ratios_of_equal_work(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    outcome = subprocess.run(
        [sys.executable, ROOT / "experiments" / "bench_credit.py", "--repeats", "1",
         "--size", "8", "60", "3", "4", "--json", written],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    (row,) = json.loads(written.read_text())["sizes"]
    assert row["size"] == {"dialogues": 8, "tokens": 60, "turns": 3, "group_size": 4}
    assert row["ratios"]["REINFORCE++ over tokens"] == 1
    assert row["difference"] < 1e-5
    assert "MICA" in outcome.stdout


def suffix_sums(
    *,
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    config: SimpleNamespace,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A peer's function: what is earned from a token on, whitened over the batch."""
    assert config.gamma == 1.0 and len(index) == len(response_mask)
    returns = token_level_rewards.flip(1).cumsum(1).flip(1)
    return bench.whitened(returns, response_mask), returns


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_peer_is_shown_the_turns_and_its_tokens_are_read_back(seed: int) -> None:
    # Without discount the recursion that steps over the user's tokens is a sum over all that follow.
    generator = np.random.default_rng(seed)
    valid = generator.random((4, 3)) > 0.3
    valid[0, 0] = valid[1, 1] = True
    rewards = np.where(valid, generator.integers(-4, 5, size=(4, 3)), np.nan)
    turns = TurnRewards(rewards, valid, np.array([0, 0, 1, 1]))
    recursion = TokenRecursion(resets=False, reply_tokens=peers.REPLY_TOKENS, user_tokens=peers.USER_TOKENS)
    # 1e-4: float32 on one side, and what is added to the deviation differs.
    np.testing.assert_allclose(peers.TokenEstimator(suffix_sums)(turns), recursion(turns), atol=1e-4)
