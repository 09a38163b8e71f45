"""What both commands of EQ-Bench 3 share: the data, the judge, how they ask it and report failed calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mica_ray.benchmarks.answers import Answer, AnswerLog
    from mica_ray.benchmarks.eqbench3.items import EqBench3
    from mica_ray.benchmarks.eqbench3.judging import JudgeTask
    from mica_ray.chat.ledger import Ledger
    from mica_ray.config import RunConfig
    from mica_ray.types import Sampling

CONCURRENCY = 16
"""Conversations or judgements in flight."""
ANSWER_TOKENS = 4000
"""Default limit of one judgement, in tokens: it has reasons and up to 18 numbers."""
CONTEXT = 24_000
"""Tokens of a judge that vLLM serves: two conversations of four turns with debriefs, and an answer."""

DataOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Your copy of EQ-Bench 3's data: the folder of its text files.")
]


@dataclass(frozen=True, slots=True)
class JudgeUnderConfig:
    """A judge's name and how it is called."""

    name: str
    config: RunConfig

    @property
    def sampling(self) -> Sampling:
        """Sampling of every judgement."""
        from mica_ray.types import Sampling

        roles = self.config.roles
        return Sampling(temperature=roles.temperature, max_tokens=roles.max_tokens)

    def settings(self, data: EqBench3) -> dict[str, object]:
        """Return what a judgement depends on besides the conversation."""
        return {
            "benchmark": data.name,
            "judge": self.name,
            "sampling": asdict(self.sampling),
            "data": data.judged_digest,
        }


def judge_values(judge: str) -> dict[str, object]:
    """Return the config values of the judge, whatever the run of the policy was trained with.

    Raises:
        ConfigError: no such model.
    """
    from mica_ray.cli.empa import benchmark_values
    from mica_ray.config import RunConfig
    from mica_ray.config.overrides import read_value
    from mica_ray.config.role_config import SCRIPTED, VLLM_PREFIX
    from mica_ray.launch.policy_source import fetch_policy, read_policy_facts

    values: dict[str, object] = {
        **benchmark_values(str(RunConfig.model_fields["domain"].default), None),
        "roles.judge": read_value(judge),
        "roles.actor": SCRIPTED,
        "roles.director": SCRIPTED,
        "roles.temperature": 0.0,
        "roles.max_tokens": ANSWER_TOKENS,
    }
    if judge.startswith(VLLM_PREFIX):
        folder = fetch_policy(judge.removeprefix(VLLM_PREFIX), weights=False, key="roles.judge")
        context = min(CONTEXT, read_policy_facts(folder, "roles.judge").context_length or CONTEXT)
        values |= {
            "roles.engine.max_model_len": context,
            "roles.max_tokens": min(ANSWER_TOKENS, context // 4),
        }
    return values


def judge_of(config: RunConfig) -> JudgeUnderConfig:
    """Return the judge of a config, by the name of its model."""
    described = config.model_dump(mode="json")["roles"]["judge"]
    if isinstance(described, dict):
        described = described.get("model") or described.get("object") or described.get("recording")
    return JudgeUnderConfig(str(described), config)


def read_data(folder: Path, console: Console) -> EqBench3:
    """Read the benchmark, and print which items it leaves out.

    Raises:
        BenchmarkDataError: a file is missing or incomplete.
    """
    from mica_ray.benchmarks.eqbench3.items import EqBench3

    data = EqBench3(folder)
    if data.skipped:
        console.print(
            f"Not played, as in EQ-Bench 3's own program: {', '.join(data.skipped)} "
            '(no turn starts with "####### PromptN").',
            highlight=False,
            soft_wrap=True,
        )
    return data


def ask_judge(
    tasks: Sequence[JudgeTask],
    num_done: int,
    referee: JudgeUnderConfig,
    log: AnswerLog,
    console: Console,
    *,
    title: str,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Ask the judge what its log does not answer yet, under a progress bar.

    Args:
        tasks: what is missing; without any, no judge is started.
        num_done: tasks answered by earlier calls, which the bar shows as done.
        referee: the judge.
        log: keeps the answers.
        console: of the command.
        title: of the bar.
        inline: whether everything runs in this process.
        ledger: collects the costs.

    Raises:
        EngineError: every call failed.
    """
    from mica_ray.benchmarks.eqbench3.judging import judge_all
    from mica_ray.cli.progress import new_bars
    from mica_ray.launch.start_world import judge_model

    if not tasks:
        return
    bars = new_bars(console)
    bar = bars.add_task(title, total=num_done + len(tasks), completed=num_done)

    def record(answer: Answer) -> None:
        log.record(answer)
        bars.advance(bar)

    async def judge() -> tuple[str, ...]:
        async with judge_model(referee.config, inline=inline, ledger=ledger) as model:
            return await judge_all(
                tasks,
                model,
                referee.sampling,
                record=record,
                deadline_seconds=referee.config.roles.deadline_seconds,
                concurrency=CONCURRENCY,
            )

    before = len(log.answers)
    with bars:
        failures = asyncio.run(judge())
    report_failures(failures, len(log.answers) - before, console)


def report_failures(failures: Sequence[object], num_recorded: int, console: Console) -> None:
    """Print how many calls failed.

    Args:
        failures: of the calls of this command.
        num_recorded: answers of this command.
        console: where it is printed.

    Raises:
        EngineError: there was no answer.
    """
    from mica_ray.rollout.engine import EngineError

    if failures and not num_recorded:
        raise EngineError(f"Every call failed. The last error was: {failures[-1]}")
    if failures:
        console.print(
            f"{len(failures)} calls failed; the same command asks them again. "
            f"The last error was: {failures[-1]}",
            markup=False,
            soft_wrap=True,
        )
