"""Dialogues of a policy that is known by its text alone, such as a model behind an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from mica_ray.chat.model import ChatModel
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import converse
from mica_ray.rollout.collect import NewEnvironment, RolloutConfig
from mica_ray.seeding import derive_seed
from mica_ray.types import Scenario, Trajectory


async def converse_all(
    policy: ChatModel,
    new_environment: NewEnvironment,
    scenarios: Sequence[Scenario],
    domain: Domain,
    *,
    rollout: RolloutConfig,
    seed: int,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play `rollout.group_size` dialogues of every scenario, with the seeds that `collect` would use.

    Args:
        policy: who replies.
        new_environment: makes one environment per dialogue.
        scenarios: of the domain.
        domain: gives the policy's prompt.
        rollout: how many, how sampled, how many at once; its context length is not read.
        seed: of the evaluation.
        progress: called with each dialogue as it ends.

    Returns:
        Dialogues by scenario, then by sample; one that failed is FAILED and says why.
    """
    permits = asyncio.Semaphore(rollout.max_concurrent_dialogues)

    async def play(group: int, sample: int) -> Trajectory:
        scenario = scenarios[group]
        dialogue_seed = derive_seed(seed, "dialogue", 0, scenario.id, sample)
        async with permits:
            trajectory = await converse(
                new_environment(scenario, dialogue_seed),
                policy,
                scenario,
                domain,
                replace(rollout.sampling, seed=dialogue_seed),
                deadline_seconds=rollout.generate_deadline_seconds,
                group=group,
                sample=sample,
            )
        if progress is not None:
            progress(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as tasks:
        playing = [
            tasks.create_task(play(group, sample))
            for group in range(len(scenarios))
            for sample in range(rollout.group_size)
        ]
    return [task.result() for task in playing]
