"""How much credit should a reply get for what comes after it?

Command:   mica sweep experiments/ablate_gamma.py
           mica sweep experiments/ablate_gamma.py:qwen3_8b, with the settings of ablate_advantage.py
Cells:     gamma 0 (only the next judgement), 0.5, 0.85 (the authors' scripts), 0.95, 1 (the whole rest of
           the dialogue), in the mixed advantage; three seeds each
Time:      about 35 minutes on two cores; on GPUs not measured: fifteen runs of mica_qwen3.py:qwen3_8b, 8 GPUs
           each, as many at the same time as fit
Expected:  not measured yet
Paper:     0.85 in the released scripts; no ablation (arXiv 2603.06194)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config.references import load_module_file
from mica_ray.tuning.sweep import Sweep

_advantage = load_module_file(Path(__file__).with_name("ablate_advantage.py"))

SWEEP = Sweep(
    name="ablate-gamma",
    question="Which discount of later turns teaches most?",
    base=_advantage.BASE,
    space={"credit.gamma": (0.0, 0.5, 0.85, 0.95, 1.0)},
    reference="gamma=0.85",
)


def qwen3_8b() -> Sweep:
    """Return the same sweep for Qwen3-8B. It needs a cluster with GPUs and a judge endpoint."""
    return replace(SWEEP, name="ablate-gamma-qwen3-8b", base=_advantage.qwen3_8b_run())
