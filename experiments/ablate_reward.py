"""Which reward of a turn teaches most, and with which scope of comparison?

Command:   mica sweep experiments/ablate_reward.py
           mica sweep experiments/ablate_reward.py:qwen3_8b, with the settings of ablate_advantage.py
Cells:     incremental distance (IDR), absolute distance (ADR) and potential, each with the group term only
           (alpha 0), the mix (0.5) and the turn term only (1); three seeds each
Time:      about an hour on two cores; on GPUs not measured: 27 runs of mica_qwen3.py:qwen3_8b, 8 GPUs each,
           as many at the same time as fit
Expected:  not measured yet
Paper:     EMPA passes of 30 / score of Qwen3-8B: IDR mixed 8.3 / 41.5, group 5.7 / 38.5, turn 5.7 / 36.1;
           ADR group 1.0 / 18.2, turn 3.3 / 31.5 (arXiv 2603.06194 v2)

The metric is EPM-Q, which is not the reward of any cell, so all cells are measured in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config.references import load_module_file
from mica_ray.tuning.sweep import Sweep

_advantage = load_module_file(Path(__file__).with_name("ablate_advantage.py"))

SWEEP = Sweep(
    name="ablate-reward",
    question="Which reward of a turn teaches most, under which scope of comparison?",
    base=_advantage.BASE,
    space={
        "rewards.kind": ("idr", "adr", "potential"),
        "credit.alpha": {"group": 0.0, "mixed": 0.5, "turn": 1.0},
    },
    reference="kind=idr alpha=mixed",
)


def qwen3_8b() -> Sweep:
    """Return the same sweep for Qwen3-8B. It needs a cluster with GPUs and a judge endpoint."""
    return replace(SWEEP, name="ablate-reward-qwen3-8b", base=_advantage.qwen3_8b_run())
