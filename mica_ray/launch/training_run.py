"""One training run, from its first evaluation to its summary.

launch/run.py starts the parts it uses.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import Evaluation, evaluation_metrics
from mica_ray.launch.assembly import Parts, assemble, measure, restored_step
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.registration import register_policy
from mica_ray.runs.run_writer import RunWriter
from mica_ray.runs.scenario_texts import ScenarioTexts
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.tracker import Tracker
from mica_ray.training import loop
from mica_ray.training.checkpoint import Checkpoints
from mica_ray.training.loop import ending_of
from mica_ray.training.progress import Progress
from mica_ray.training.scenario_order import ScenarioOrder


class TrainingRun:
    """One training run in its folder. Reads a config, writes the files of the run folder."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, progress: Progress, tracker: Tracker | None
    ) -> None:
        self._config, self._folder, self._progress, self._tracker = config, folder, progress, tracker
        self._writer = RunWriter(config, folder)

    async def play(self, started: AbstractAsyncContextManager[Parts], *, resumes: bool) -> RunSummary:
        """Evaluate, train, evaluate again and write the summary.

        Args:
            started: context manager that starts and closes the parts, a learner among them.
            resumes: whether to continue from the newest checkpoint.
        """
        config, folder, writer = self._config, self._folder, self._writer
        async with AsyncExitStack() as stack:
            with writer.timed("set_up"):
                parts = await stack.enter_async_context(started)
            assert parts.learner is not None
            order = ScenarioOrder(parts.world.scenarios("train"), config.seed, config.loop.scenarios_per_step)
            checkpoints = Checkpoints(
                folder.checkpoints,
                keep=config.loop.keep_checkpoints,
                policy_files=parts.template.own_files,
            )
            first_step = restored_step(checkpoints, parts.learner, order) if resumes else 0
            evaluated = parts.evaluated.scenarios(config.evaluation.split)
            writer.add_dataset(order.scenarios, "training")
            writer.add_dataset(evaluated, "evaluation")
            folder.set_ending_aside()
            ScenarioTexts.of(config, order.scenarios, evaluated).write(folder)
            tracker = writer.open(first_step, self._tracker)
            # Receives the exception that ends the run early, if any.
            stack.push(lambda _, error, __: tracker.close(ending_of(error)))
            before = folder.read_evaluation("before", seed=config.evaluation.seed)
            if before is None:
                before = await self._measure("before", parts, tracker, step=first_step)
            elif first_step == 0:
                # Opening the metrics at step 0 dropped the rows of step 0, this one included.
                tracker.log(evaluation_metrics(before), 0)
            with writer.timed("train"):
                await loop.train(
                    assemble(
                        config,
                        parts,
                        folder,
                        order=order,
                        checkpoints=checkpoints,
                        tracker=tracker,
                        progress=self._progress,
                        first_step=first_step,
                    )
                )
            after = await self._measure("after", parts, tracker, step=config.loop.num_steps)
            summary = writer.write_summary(
                checkpoints, before, after, parts.ledger, domain=parts.evaluated.domain
            )
            tracker.artifact(folder.summary)
        # The tracker is closed now: MLflow has the whole run, and nothing else sends from the outbox.
        return replace(summary, registered=self._register())

    def _register(self) -> str | None:
        """Register the policy if the config asks for it; a failure is returned as text, not raised."""
        name = self._config.register_as
        if name is None:
            return None
        try:
            made = register_policy(self._folder, name)
        except ConfigError as error:
            return f"not registered: {error} Then run `mica register {self._folder.path} --name {name}`."
        return f"{made.name} version {made.version}"

    async def _measure(self, when: str, parts: Parts, tracker: Tracker, *, step: int) -> Evaluation:
        with self._writer.timed(f"evaluate_{when}"):
            evaluation = await measure(
                self._config, parts, self._progress, step=step, phase=f"evaluate_{when}"
            )
        self._writer.write_evaluation(when, evaluation, tracker, step=step)
        return evaluation
