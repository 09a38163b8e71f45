"""Trains a run in this process, with a tracker that keeps its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch import run
from mica_ray.launch.assembly import assemble
from mica_ray.runs.folder import RunFolder
from mica_ray.tracking.tracker import Ending
from mica_ray.training import loop
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.training.progress import SilentProgress
from mica_ray.training.scenario_order import ScenarioOrder


class Metrics:
    """A tracker that keeps the metrics by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.steps.append(dict(metrics))

    def artifact(self, path: Path) -> None:
        pass

    def close(self, ending: Ending = "finished") -> None:
        pass


def train(path: Path, settings: Sequence[str]) -> tuple[RunFolder, list[dict[str, float]]]:
    """Train from the first step to the last; return the run's folder and its metrics by step."""
    config = override(RunConfig(), settings)
    folder, metrics, silent = RunFolder.create(config, path), Metrics(), SilentProgress()

    async def play() -> None:
        checked = run.check(config, inline=True)
        async with run.set_up(checked, progress=silent, folder=folder) as parts:
            order = ScenarioOrder(parts.world.scenarios("train"), config.seed, config.loop.scenarios_per_step)
            checkpoints = Checkpoints(folder.checkpoints, keep=1)
            await loop.train(
                assemble(
                    config, parts, folder, order=order, checkpoints=checkpoints, tracker=metrics,
                    progress=silent, first_step=0,
                )
            )  # fmt: skip

    asyncio.run(play())
    return folder, metrics.steps
