"""The smallest sweep that trains: each trial takes seconds and is one process."""

from __future__ import annotations

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.tuning.sweep import Sweep

_TINY = (
    "loop.num_steps=2", "loop.checkpoint_every=1", "loop.scenarios_per_step=2", "learner.mini_batches=1",
    "loop.track_policy=false", "retellings=0",
    "rollout.group_size=2", "rollout.sampling.max_tokens=8", "rollout.context_length=512",
    "evaluation.max_scenarios=2", "evaluation.samples=1",
)  # fmt: skip


def tiny_sweep(policy: str, *alphas: float, seeds: tuple[int, ...] = (0,)) -> Sweep:
    """Return a sweep over alpha whose trials have two steps.

    Args:
        policy: folder of the policy.
        alphas: one cell each.
        seeds: seeds of each cell.
    """
    return Sweep(
        name="tiny",
        question="Does it matter?",
        base=override(RunConfig(), (*_TINY, f"policy={policy}")),
        space={"credit.alpha": alphas},
        seeds=seeds,
        inline=True,
        retries=1,
    )
