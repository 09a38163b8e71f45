"""Collect dialogues of the policy: a task for each, no barrier between turns, failures turned into data.

The only place where the failure of a dialogue is caught. What a dialogue consists of is
`dialogue/environment.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from mica_ray.chat.ledger import DialogueKey, dialogue_costs
from mica_ray.chat.model import ChatError
from mica_ray.dialogue.environment import Environment
from mica_ray.dialogue.prefix import Prefix
from mica_ray.dialogue.record import DialogueRecord
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, PolicyEngine
from mica_ray.seeding import derive_seed
from mica_ray.types import Generation, Sampling, Scenario, Stop, Trajectory

NewEnvironment = Callable[[Scenario, int], Environment]
"""Makes the environment of one dialogue from its scenario and seed."""

ResumeEnvironment = Callable[[Scenario, int, Prefix], Environment]
"""Makes the environment of a dialogue that goes on from a prefix, from its scenario and seed."""

PolicyPrompt = Callable[[Scenario], str]
"""Gives the policy's system prompt in a scenario's language."""


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """How many dialogues are played and how the policy samples. When one is over is the domain's business."""

    group_size: int = 4
    """N, dialogues per scenario."""
    sampling: Sampling = field(default_factory=Sampling)
    """Of the policy; its seed is replaced by one derived for every reply."""
    context_length: int = 1024
    """Tokens of a whole dialogue; one that no longer fits ends as LIMIT. At most what the engine holds."""
    max_concurrent_dialogues: int = 256
    generate_deadline_seconds: float = 120.0
    """Longest wait for one reply."""
    dialogue_deadline_seconds: float = 1800.0
    """Longest life of one dialogue."""

    def __post_init__(self) -> None:
        """Refuse values nothing can be collected with."""
        for name in ("group_size", "max_concurrent_dialogues"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("generate_deadline_seconds", "dialogue_deadline_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
        if self.context_length <= self.sampling.max_tokens:
            raise ValueError(
                f"context_length must be above sampling.max_tokens = {self.sampling.max_tokens}; "
                f"got {self.context_length}"
            )


@runtime_checkable
class RoutingEngine(Protocol):
    """An engine of several parts that can keep a dialogue on one of them, where its prefix is cached."""

    def route(self, key: int) -> PolicyEngine:
        """Give the part that serves this dialogue. Equal keys, equal parts."""
        ...


async def collect(
    scenarios: Sequence[Scenario],
    new_environment: NewEnvironment,
    engine: PolicyEngine,
    template: ChatTemplate,
    config: RolloutConfig,
    *,
    step: int,
    seed: int,
    policy_prompt: str | PolicyPrompt,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play `group_size` dialogues of every scenario at once.

    Every random choice is seeded by (seed, step, scenario id, sample, turn): the order in which tasks happen
    to run, the number of engines and the other scenarios of the batch change nothing.

    Args:
        scenarios: of this step; the position of a scenario is its group.
        new_environment: makes one environment per dialogue.
        engine: the policy.
        template: of the policy's tokenizer.
        config: how many, how sampled, how long.
        step: of the loop; part of the seeds.
        seed: of the run.
        policy_prompt: system prompt of the policy, or what gives a scenario's; none is sent when empty.
        progress: called with each dialogue as it ends.

    Returns:
        Dialogues by group, then by sample. A dialogue that failed is FAILED, says why and keeps its finished
        turns.
    """
    permits = asyncio.Semaphore(config.max_concurrent_dialogues)

    async def play(number: int, scenario: Scenario) -> Trajectory:
        group, sample = divmod(number, config.group_size)
        dialogue = _Dialogue(
            scenario,
            group,
            sample,
            seed=derive_seed(seed, "dialogue", step, scenario.id, sample),
            engine=engine.route(number) if isinstance(engine, RoutingEngine) else engine,
            template=template,
            config=config,
            policy_prompt=policy_prompt if isinstance(policy_prompt, str) else policy_prompt(scenario),
        )
        async with permits:
            with dialogue_costs(DialogueKey(step, scenario.id, sample)):
                trajectory = await dialogue.play(new_environment)
        if progress is not None:
            progress(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as tasks:
        playing = [
            tasks.create_task(play(group * config.group_size + sample, scenario))
            for group, scenario in enumerate(scenarios)
            for sample in range(config.group_size)
        ]
    return [task.result() for task in playing]


@dataclass(frozen=True, slots=True)
class Branch:
    """A dialogue to be played on from somewhere in the middle."""

    scenario: Scenario
    begun: Prefix
    seed: int
    """Of what follows alone."""


async def play_on(
    branches: Sequence[Branch],
    resume_environment: ResumeEnvironment,
    engine: PolicyEngine,
    template: ChatTemplate,
    config: RolloutConfig,
    *,
    policy_prompt: PolicyPrompt,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play dialogues on from where they stand, one continuation for each branch.

    What was said before is rendered anew by the template: it is text, and its tokens are not kept.

    Args:
        branches: where to go on.
        resume_environment: makes one environment per branch.
        engine: the policy.
        template: of the policy's tokenizer.
        config: how sampled, how long; its group size is not read.
        policy_prompt: gives a scenario's system prompt.
        progress: called with each dialogue as it ends.

    Returns:
        What followed, branch by branch, `sample` being the branch: the turns after the prefix, from the state
        it led to. One whose prefix fills the context is LIMIT without turns; one that failed says why.
    """
    permits = asyncio.Semaphore(config.max_concurrent_dialogues)

    async def play(number: int, branch: Branch) -> Trajectory:
        dialogue = _Dialogue(
            branch.scenario,
            0,
            number,
            seed=branch.seed,
            engine=engine.route(number) if isinstance(engine, RoutingEngine) else engine,
            template=template,
            config=config,
            policy_prompt=policy_prompt(branch.scenario),
            begun=branch.begun,
        )
        async with permits:
            with dialogue_costs(DialogueKey(0, branch.scenario.id, number)):
                trajectory = await dialogue.play(
                    lambda scenario, seed: resume_environment(scenario, seed, branch.begun)
                )
        if progress is not None:
            progress(trajectory)
        return trajectory

    async with asyncio.TaskGroup() as tasks:
        playing = [tasks.create_task(play(number, branch)) for number, branch in enumerate(branches)]
    return [task.result() for task in playing]


class _Dialogue:
    """One dialogue being played. Consumes an environment, produces a trajectory; waits for both."""

    def __init__(
        self,
        scenario: Scenario,
        group: int,
        sample: int,
        *,
        seed: int,
        engine: PolicyEngine,
        template: ChatTemplate,
        config: RolloutConfig,
        policy_prompt: str,
        begun: Prefix | None = None,
    ) -> None:
        self._scenario = scenario
        self._seed = seed
        self._engine = engine
        self._template = template
        self._config = config
        self._begun = begun
        self._record = DialogueRecord(
            scenario, policy_prompt=policy_prompt, group=group, sample=sample, begun=begun
        )

    async def play(self, new_environment: NewEnvironment) -> Trajectory:
        """Play until someone ends it or something fails; never raises but for cancellation."""
        deadline = self._config.dialogue_deadline_seconds
        try:
            async with asyncio.timeout(deadline) as timer:
                await self._converse(new_environment(self._scenario, self._seed))
        except Exception as failure:
            # What a chat model says of itself is whole; other errors may be a bare word.
            is_told = isinstance(failure, ChatError)
            error = str(failure) if is_told else f"{type(failure).__name__}: {failure}"
            if isinstance(failure, TimeoutError) and timer.expired():
                error = f"the dialogue took more than {deadline:g} s"
            self._record.end(Stop.FAILED, error)
        return self._record.trajectory()

    async def _converse(self, environment: Environment) -> None:
        record = self._record
        record.open(await environment.open())
        prompt_ids = self._template.prompt(record.messages)
        while self._fits(prompt_ids):
            generation = await self._generate(prompt_ids)
            exchange = await environment.respond(generation.text)
            record.add(generation.text, exchange, generation=generation)
            if record.stop is not None:
                return
            prompt_ids = self._template.next_prompt(record.messages, generation)
        if not record.num_turns and self._begun is None:
            raise EngineError(
                f"the first prompt has {len(prompt_ids)} tokens and leaves no room for a reply of "
                f"{self._config.sampling.max_tokens} in a context of {self._config.context_length}: "
                "raise context_length"
            )
        record.end(Stop.LIMIT)

    def _fits(self, prompt_ids: Sequence[int]) -> bool:
        return len(prompt_ids) + self._config.sampling.max_tokens <= self._config.context_length

    async def _generate(self, prompt_ids: Sequence[int]) -> Generation:
        sampling = replace(
            self._config.sampling, seed=derive_seed(self._seed, "policy", self._record.num_turns)
        )
        deadline = self._config.generate_deadline_seconds
        try:
            async with asyncio.timeout(deadline) as timer:
                return await self._engine.generate(prompt_ids, sampling)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise EngineError(f"no reply of the policy within {deadline:g} s") from error
