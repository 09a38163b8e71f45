"""Collect dialogues: one task per dialogue, no barrier between turns, failures as data.

How one dialogue is played is in dialogue/play.py; the policy over an engine is in engine_policy.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from mica_ray.checks import above, at_least, one_of
from mica_ray.dialogue.environment import Environment
from mica_ray.dialogue.play import DialogueStart, Policy, play_dialogue
from mica_ray.rollout.prompting.appending import History
from mica_ray.seeding import derive_seed
from mica_ray.types import Sampling, Scenario, Trajectory

NewEnvironment = Callable[[Scenario, int], Environment]
"""Build the environment of one dialogue from its scenario and seed."""

EnvironmentAt = Callable[[DialogueStart], Environment]
"""Build the environment of one dialogue from its start."""

PolicyPrompt = Callable[[Scenario], str]
"""Return the policy's system prompt in the scenario's language."""


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """Number of dialogues, sampling of the policy, and limits on length, time and concurrency."""

    group_size: int = 4
    """N, dialogues per scenario."""
    sampling: Sampling = field(default_factory=Sampling)
    """Of the policy; its seed is replaced by one derived for every reply."""
    context_length: int = 1024
    """Tokens of a whole dialogue; one that no longer fits ends as LIMIT. At most the engine's context."""
    history: History = "template"
    """How the prompt of a reply contains earlier replies. template: as the policy's chat template renders
    them, which may drop their thoughts. as_sampled: every prompt continues the one before and the sampled
    reply, so that a dialogue is one row in training. A policy trained so keeps it: its chat template is saved
    with it. Templates that only append render the same either way."""
    max_concurrent_dialogues: int = 256
    generate_deadline_seconds: float = 120.0
    """Longest wait for one reply of the policy."""
    dialogue_deadline_seconds: float = 1800.0
    """Longest duration of one dialogue."""

    def __post_init__(self) -> None:
        """Check the counts and deadlines, and that a reply fits into the context."""
        one_of(get_args(History), history=self.history)
        at_least(1, group_size=self.group_size, max_concurrent_dialogues=self.max_concurrent_dialogues)
        above(
            0,
            generate_deadline_seconds=self.generate_deadline_seconds,
            dialogue_deadline_seconds=self.dialogue_deadline_seconds,
        )
        if self.context_length <= self.sampling.max_tokens:
            raise ValueError(
                f"context_length must be > sampling.max_tokens = {self.sampling.max_tokens}, "
                f"got {self.context_length}."
            )


async def collect(
    scenarios: Sequence[Scenario],
    new_environment: NewEnvironment,
    policy: Policy,
    config: RolloutConfig,
    *,
    step: int,
    seed: int,
    policy_prompt: str | PolicyPrompt,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play `group_size` dialogues of every scenario, all at once.

    Every random choice is seeded by (seed, step, scenario id, sample, turn). The order in which tasks run,
    the number of engines and the other scenarios of the batch change nothing.

    Args:
        scenarios: of this step; the position of a scenario is its group.
        new_environment: builds one environment per dialogue.
        policy: replies in every dialogue.
        config: how many dialogues, how the policy samples, and how long it may take.
        step: of the loop; part of the seeds.
        seed: of the run.
        policy_prompt: system prompt of the policy, or a function of the scenario; empty for none.
        progress: called with each dialogue as it ends.

    Returns:
        Dialogues by group, then by sample. A failed one has a reason and keeps its finished turns.
    """
    starts = [
        dialogue_start(scenario, seed=seed, step=step, group=group, sample=sample)
        for group, scenario in enumerate(scenarios)
        for sample in range(config.group_size)
    ]

    def environment_at(start: DialogueStart) -> Environment:
        return new_environment(start.scenario, start.seed)

    return await play_all(
        starts, environment_at, policy, config, policy_prompt=policy_prompt, progress=progress
    )


def dialogue_start(scenario: Scenario, *, seed: int, step: int, group: int, sample: int) -> DialogueStart:
    """Return the start of one dialogue, with a seed derived from (seed, step, scenario id, sample)."""
    return DialogueStart(
        scenario,
        seed=derive_seed(seed, "dialogue", step, scenario.id, sample),
        step=step,
        group=group,
        sample=sample,
    )


async def play_all(
    starts: Sequence[DialogueStart],
    environment_at: EnvironmentAt,
    policy: Policy,
    config: RolloutConfig,
    *,
    policy_prompt: str | PolicyPrompt,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play one dialogue from each start, from an opening or from a prefix.

    A prefix is text: the template renders it again, because its tokens are not stored.

    Args:
        starts: where the dialogues start; the position of a start routes it to an engine.
        environment_at: builds the environment of a start.
        policy: replies in every dialogue.
        config: how the policy samples and how long it may take; `group_size` is not used.
        policy_prompt: system prompt of the policy, or a function of the scenario; empty for none.
        progress: called with each dialogue as it ends.

    Returns:
        The turns after each start. A prefix that fills the context ends as LIMIT without turns.
    """
    permits = asyncio.Semaphore(config.max_concurrent_dialogues)

    async def play(number: int, start: DialogueStart) -> Trajectory:
        async with permits:
            trajectory = await play_dialogue(
                start,
                environment_at(start),
                policy.for_dialogue(number),
                config.sampling,
                policy_prompt=(
                    policy_prompt if isinstance(policy_prompt, str) else policy_prompt(start.scenario)
                ),
                reply_deadline_seconds=config.generate_deadline_seconds,
                deadline_seconds=config.dialogue_deadline_seconds,
            )
        if progress is not None:
            progress(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as tasks:
        playing = [tasks.create_task(play(number, start)) for number, start in enumerate(starts)]
    return [task.result() for task in playing]
