"""Few dialogues of many scenarios, or many dialogues of few, with the same number of dialogues?

Command:   mica sweep experiments/ablate_group_size.py
           mica sweep experiments/ablate_group_size.py:qwen3_8b, with the settings of ablate_advantage.py
Cells:     dialogues per scenario x scenarios per step: 2 x 32, 4 x 16 (the paper), 8 x 8; three seeds each
Time:      about 22 minutes on two cores; on GPUs not measured: nine runs of mica_qwen3.py:qwen3_8b, 8 GPUs
           each, as many at the same time as fit
Expected:  not measured yet
Paper:     N = 4 throughout. A z-score over N dialogues is at most (N - 1) / sqrt(N), which limits the spikes
           of the turn term; the two terms are mixed for that reason (arXiv 2603.06194)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config.references import load_module_file
from mica_ray.tuning.sweep import Sweep

_advantage = load_module_file(Path(__file__).with_name("ablate_advantage.py"))

SWEEP = Sweep(
    name="ablate-group-size",
    question="Which group size teaches most with equally many dialogues a step?",
    base=_advantage.BASE,
    space={
        "rollout.group_size+loop.scenarios_per_step": {"2x32": (2, 32), "4x16": (4, 16), "8x8": (8, 8)},
    },
)


def qwen3_8b() -> Sweep:
    """Return the same sweep for Qwen3-8B. It needs a cluster with GPUs and a judge endpoint."""
    return replace(SWEEP, name="ablate-group-size-qwen3-8b", base=_advantage.qwen3_8b_run())
