"""How much of the turn term and how much of the group term makes the best mixed advantage?

Command:   mica sweep experiments/ablate_advantage.py
           mica sweep experiments/ablate_advantage.py:qwen3_8b --set cards=DIR
               --set world=empa --set judge=ENDPOINT
Cells:     alpha 0 (group only), 0.25, 0.5 (the paper), 0.75, 1 (turn only); three seeds each
Time:      33 minutes on two cores, two trials of about 4 minutes side by side; on GPUs not measured:
           fifteen runs of mica_qwen3.py:qwen3_8b, 8 GPUs each, as many at the same time as fit
Expected:  0 to 0.5 are not distinguishable, 0.75 and 1 learn more slowly; table in experiments/README.md
Paper:     EMPA passes of 30 / score: Qwen3-8B mixed 8.3 / 41.5, group 5.7 / 38.5, turn 5.7 / 36.1;
           Qwen2.5-7B mixed 9.0 / 58.9, group 6.0 / 50.8, turn 6.7 / 54.5; alpha in 0.5 to 0.7 works best
           (arXiv 2603.06194 v2)

All trials share policy, scenarios and evaluation. BASE is the embedded run with 8 steps instead of 22 and two
evaluation dialogues per scenario instead of three. The other sweeps of this folder use the same base.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import resolve
from mica_ray.tuning.sweep import Sweep

BASE = override(
    RunConfig(),
    (
        "loop.num_steps=8",
        "loop.checkpoint_every=4",
        "loop.keep_checkpoints=1",
        "loop.track_policy=false",
        "evaluation.samples=2",
    ),
)

SWEEP = Sweep(
    name="ablate-advantage",
    question="Which mix of turn and group advantage teaches most?",
    base=BASE,
    space={"credit.alpha": (0.0, 0.25, 0.5, 0.75, 1.0)},
    reference="alpha=0.5",
)


def qwen3_8b() -> Sweep:
    """Return the same sweep for Qwen3-8B. It needs a cluster with GPUs and a judge endpoint."""
    return replace(SWEEP, name="ablate-advantage-qwen3-8b", base=qwen3_8b_run())


def qwen3_8b_run() -> RunConfig:
    """Return the run of mica_qwen3.py that the sweeps of this folder use on a cluster."""
    found = resolve(f"{Path(__file__).with_name('mica_qwen3.py')}:CONFIG")
    assert isinstance(found, RunConfig), "mica_qwen3.py holds a RunConfig"
    return found
