"""Progress on the terminal: the stage, the step, the dialogues of the stage that are over."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import TaskID

from mica_ray.cli.progress_bars import new_bars
from mica_ray.config import RunConfig
from mica_ray.launch.assembly import ROLL_FORWARD
from mica_ray.types import Trajectory


class StageBars:
    """The `Progress` of loop and run as two rich bars: steps of the run, dialogues of the stage."""

    def __init__(self, config: RunConfig, console: Console, *, num_evaluated: int) -> None:
        """Hold the bars still; entering the context shows them.

        Args:
            config: of the run.
            console: where they are drawn; plain lines where it is no terminal.
            num_evaluated: dialogues of one evaluation, or continuations of a check of credit.
        """
        self._console = console
        self._totals = {
            "collect dialogues": config.loop.scenarios_per_step * config.rollout.group_size,
            "evaluate": num_evaluated,
            ROLL_FORWARD: num_evaluated,
        }
        self._bars = new_bars(console)
        self._steps: TaskID = self._bars.add_task("steps", total=config.loop.num_steps)
        self._stage: TaskID = self._bars.add_task("set up", total=None)
        self._name = ""

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._bars.stop()

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Name the stage and start its count anew."""
        self._bars.update(self._steps, completed=step, total=num_steps)
        self._bars.reset(self._stage, total=self._totals.get(name), description=name)
        if not self._console.is_terminal and (name.startswith(("set up", "evaluate"))) and name != self._name:
            self._console.print(name, highlight=False)
        self._name = name

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Count one more dialogue."""
        self._bars.advance(self._stage)
