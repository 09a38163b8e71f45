"""A run of the loop with a real learner and made-up dialogues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mica_ray.credit import Mica
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.rewards import Rewards
from mica_ray.seeding import derive_seed
from mica_ray.tracking.tracker import JsonlTracker
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.loop import LoopConfig, Run
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.training.update import LearnerConfig
from mica_ray.types import (
    Generation,
    Judgement,
    PolicyWeights,
    Sampling,
    Scenario,
    Stop,
    Trajectory,
    Turn,
)
from tests.tiny_policy import VOCABULARY


class VersionEngine:
    """An engine that only stores the version of its weights."""

    def __init__(self) -> None:
        self.version = -1

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        raise NotImplementedError

    async def load_weights(self, weights: PolicyWeights) -> None:
        self.version = weights.version

    async def close(self) -> None: ...


class StageList:
    """`Progress` that records its calls."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, str]] = []
        self.num_dialogues = 0

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        self.stages.append((step, name))

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        self.num_dialogues += 1


def scenario(name: str) -> Scenario:
    return Scenario(
        id=name, domain="test", category="work", dominant_axis="A", persona="Somebody.", opening="Hello.",
        initial_state=(-3.0, -6.0, -3.0), stages=(), split="train",
    )  # fmt: skip


def dialogue(of: Scenario, group: int, sample: int, *, step: int, version: int) -> Trajectory:
    """Two turns of random tokens and states; the second judgement of sample 1 fails."""
    generator = np.random.default_rng(derive_seed("dialogue", step, of.id, sample))
    tokens: list[int] = []
    turns: list[Turn] = []
    state = np.array(of.initial_state)
    for index in range(2):
        prompt = (*tokens, *generator.integers(0, VOCABULARY, 4).tolist())
        reply = tuple(generator.integers(0, VOCABULARY, 5).tolist())
        judgement = Judgement((1, 1, 1), (0, 0, 0), (float(generator.integers(-2, 3)), 1.0, 0.0))
        if index == 1 and sample == 1:
            judgement = Judgement.failed(status=judgement.status.TIMED_OUT, error="late")
        state = state + np.array(judgement.delta or (0, 0, 0))
        generation = Generation(prompt, reply, (-5.0,) * 5, "reply", "stop", version)
        turns.append(Turn(index, "user", "reply", judgement, tuple(state.tolist()), generation))  # type: ignore[arg-type]
        tokens = [*prompt, *reply]
    return Trajectory(of, group, sample, tuple(turns), Stop.LIMIT)


def new_run(policy: Path, folder: Path, num_steps: int, **loop: float) -> tuple[Run, VersionEngine]:
    engine = VersionEngine()

    async def collect(
        step: int, scenarios: Sequence[Scenario], progress: Callable[[Trajectory], None]
    ) -> Sequence[Trajectory]:
        trajectories = [
            dialogue(item, group, sample, step=step, version=engine.version)
            for group, item in enumerate(scenarios)
            for sample in range(3)
        ]
        for trajectory in trajectories:
            progress(trajectory)
        return trajectories

    run = Run(
        loop=LoopConfig(num_steps=num_steps, scenarios_per_step=2, **loop),  # type: ignore[arg-type]
        scenarios=ScenarioOrder(tuple(scenario(str(number)) for number in range(5)), seed=0, per_step=2),
        collect=collect,
        rewards=Rewards(),
        credit=Mica(),
        engine=engine,
        learner=LocalLearner(policy, LearnerConfig(learning_rate=1e-3, total_updates=8, mini_batches=2)),
        tracker=JsonlTracker(folder / "metrics.jsonl"),
        checkpoints=Checkpoints(folder / "checkpoints"),
        dialogues=DialogueLog(folder / "dialogues.jsonl"),
        progress=StageList(),
    )
    return run, engine


def resumed(run: Run, folder: Path) -> Run:
    state = run.checkpoints.restore(run.learner, scenario_order=run.scenarios.digest)
    return replace(
        run,
        first_step=state.step,
        tracker=JsonlTracker(folder / "metrics.jsonl", first_step=state.step),
        dialogues=DialogueLog(folder / "dialogues.jsonl", first_step=state.step),
    )
