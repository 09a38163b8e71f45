"""Which credit teaches most with the same budget: MICA, one of its halves, GRPO or REINFORCE++?

Command:   mica sweep experiments/baselines.py
           mica sweep experiments/baselines.py:whole_run          (every trial is the whole embedded run)
           mica sweep experiments/baselines.py:qwen3_8b, with the settings of ablate_advantage.py
Cells:     MICA, turn only, group only, GRPO, REINFORCE++ by trajectory, REINFORCE++ over batch-normalized
           IDR; three seeds each, one with whole_run
Time:      about 40 minutes on two cores, 18 with whole_run; on GPUs not measured: eighteen runs of
           mica_qwen3.py:qwen3_8b, 8 GPUs each, as many at the same time as fit
Expected:  the table in experiments/README.md
Paper:     EMPA score of Qwen3-8B: MICA 41.5, group only 38.5, turn only 36.1, GRPO 33.0 (2603.06194)

All cells share policy, scenarios, seeds and budget; only the estimator differs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config import RunConfig
from mica_ray.config.references import load_module_file
from mica_ray.credit import Grpo, Mica, ReinforcePlusPlus
from mica_ray.tuning.sweep import Sweep

_advantage = load_module_file(Path(__file__).with_name("ablate_advantage.py"))

SWEEP = Sweep(
    name="baselines",
    question="Which credit teaches most under one budget?",
    base=_advantage.BASE,
    space={
        "credit": {
            "mica": Mica(alpha=0.5),
            "turn_only": Mica(alpha=1.0),
            "group_only": Mica(alpha=0.0),
            "grpo": Grpo(),
            "reinforce_pp": ReinforcePlusPlus(),
            "reinforce_pp_batch_idr": ReinforcePlusPlus(kind="batch_idr"),
        }
    },
    reference="credit=mica",
)


def whole_run() -> Sweep:
    """Return the same sweep with the whole embedded run as every trial, and one seed."""
    return replace(SWEEP, name="baselines-whole-run", base=RunConfig(), seeds=(0,))


def qwen3_8b() -> Sweep:
    """Return the same sweep for Qwen3-8B. It needs a cluster with GPUs and a judge endpoint."""
    return replace(SWEEP, name="baselines-qwen3-8b", base=_advantage.qwen3_8b_run())
