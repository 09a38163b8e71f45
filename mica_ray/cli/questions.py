"""`mica evaluate emobench` and `eqbench2`: a policy answers the questions of a benchmark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mica_ray.cli.options import (
    InlineOption,
    JsonFileOption,
    PolicyOption,
    SetOption,
    TrustOption,
    new_console,
    save_json,
)

if TYPE_CHECKING:
    from mica_ray.benchmarks.answers import Answer, AnswerLog
    from mica_ray.benchmarks.question import Question, QuestionBenchmark
    from mica_ray.benchmarks.scores import GroupScore
    from mica_ray.chat.ledger import Ledger
    from mica_ray.chat.model import ChatError
    from mica_ray.cli.empa import PolicyUnderTest
    from mica_ray.types import Sampling

CONCURRENCY = 16
"""Questions in flight."""

DataOption = Annotated[Path, typer.Option(metavar="PATH", help="Your copy of the benchmark's questions.")]
SamplesOption = Annotated[int, typer.Option(min=1, help="Answers to each question.")]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many questions of each part and language, evenly spaced.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the answers. Default: runs/BENCHMARK-POLICY."),
]


def emobench_command(
    policy: PolicyOption,
    data: DataOption,
    samples: SamplesOption = 1,
    limit: LimitOption = None,
    out: OutOption = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Answer EmoBench: emotional application (EA) and understanding (EU), in English and Chinese.

    Every answer is kept: the same command continues where an earlier one stopped.
    """
    from mica_ray.benchmarks.emobench import EmoBench

    _evaluate(
        lambda: EmoBench(data), policy, samples, limit, out, inline=inline, sets=sets, json_file=json_file
    )


def eqbench2_command(
    policy: PolicyOption,
    data: DataOption,
    samples: SamplesOption = 1,
    limit: LimitOption = None,
    out: OutOption = None,
    inline: InlineOption = False,
    sets: SetOption = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Answer EQ-Bench v2: intensities of emotions at the end of a dialogue. It needs no judge.

    Every answer is kept: the same command continues where an earlier one stopped.
    """
    from mica_ray.benchmarks.eqbench2 import EqBench2

    _evaluate(
        lambda: EqBench2(data), policy, samples, limit, out, inline=inline, sets=sets, json_file=json_file
    )


def _evaluate(
    read: Callable[[], QuestionBenchmark],
    policy: str,
    samples: int,
    limit: int | None,
    out: Path | None,
    *,
    inline: bool,
    sets: Sequence[str] | None,
    json_file: Path | None,
) -> None:
    from mica_ray.benchmarks.answers import AnswerLog
    from mica_ray.benchmarks.question import BenchmarkDataError
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import read_policy, slug
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.files import write_json

    console, ledger = new_console(), Ledger()
    tested = read_policy(policy, {}, sets or ())
    try:
        benchmark = read()
        sampling = _sampling(benchmark, tested)
        questions = spread(benchmark.questions, limit)
        folder = out or Path("runs") / f"{benchmark.name}-{slug(tested.name)}"
        settings = {"benchmark": benchmark.name, "model": tested.name, "sampling": asdict(sampling)}
        log = AnswerLog(folder, settings)
    except BenchmarkDataError as error:
        raise ConfigError(str(error)) from error
    _ask(benchmark, log, questions, samples, sampling, tested, console, inline=inline, ledger=ledger)
    record = score_record(benchmark.name, tested.name, questions, log.answers)
    write_json(folder / "score.json", record)
    save_json(json_file, record)
    _show(benchmark.name, tested.name, questions, log.answers, console)
    if ledger.totals():
        console.print(cost_table("Calls and costs of this command", ledger.totals()))
    console.print(f"answers: {log.path}", highlight=False, soft_wrap=True)


def spread(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """Return at most `limit` questions of each part and language, evenly spaced; all without a limit.

    The files are sorted by category, so the first questions would be of one category.
    """
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.part, question.language), []).append(question)
    chosen: set[str] = set()
    for group in groups.values():
        count = len(group) if limit is None else min(limit, len(group))
        chosen.update(group[index * len(group) // count].id for index in range(count))
    return [question for question in questions if question.id in chosen]


def score_record(
    name: str, model: str, questions: Sequence[Question], answers: Sequence[Answer]
) -> dict[str, object]:
    """Return the scores of a benchmark as JSON, by part, language and category."""
    from mica_ray.benchmarks.scores import group_score, named_scores, scores_by

    groups = {
        field: {value: asdict(score) for value, score in scores_by(field, questions, answers).items()}
        for field in ("part", "language", "category")
    }
    names = named_scores(answers)
    return {
        "benchmark": name,
        "model": model,
        "all": asdict(group_score(questions, answers)),
        "scores": {score: asdict(group_score(questions, answers, name=score)) for score in names},
        **groups,
    }


def _sampling(benchmark: QuestionBenchmark, tested: PolicyUnderTest) -> Sampling:
    """Return the benchmark's sampling, with room for the question in the policy's context."""
    room = max(1, tested.config.rollout.context_length // 2)
    return replace(benchmark.sampling, max_tokens=min(benchmark.sampling.max_tokens, room))


def _ask(
    benchmark: QuestionBenchmark,
    log: AnswerLog,
    questions: Sequence[Question],
    samples: int,
    sampling: Sampling,
    tested: PolicyUnderTest,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Ask the questions that have no answer yet, under a progress bar."""
    from mica_ray.benchmarks.answers import answer_questions
    from mica_ray.cli.progress import new_bars
    from mica_ray.launch.text_policy import policy_model
    from mica_ray.rollout.engine import EngineError

    missing = log.missing(questions, samples)
    total = len(questions) * samples
    if not missing:
        console.print(f"{log.path}: all {total} answers are there.", highlight=False)
        return
    bars = new_bars(console)
    task = bars.add_task(f"answer {benchmark.name}", total=total, completed=total - len(missing))

    async def play() -> tuple[ChatError, ...]:
        def record(answer: Answer) -> None:
            log.record(answer)
            bars.advance(task)

        async with policy_model(
            tested.config, text_policy=tested.text, inline=inline, ledger=ledger
        ) as model:
            return await answer_questions(
                benchmark, missing, model, sampling, record=record, concurrency=CONCURRENCY
            )

    with bars:
        failures = asyncio.run(play())
    if len(failures) == len(missing):
        raise EngineError(f"Every call failed. The last error was: {failures[-1]}")
    if failures:
        console.print(
            f"{len(failures)} calls failed; the same command asks them again. "
            f"The last error was: {failures[-1]}",
            markup=False,
            soft_wrap=True,
        )


def _show(
    name: str, model: str, questions: Sequence[Question], answers: Sequence[Answer], console: Console
) -> None:
    from mica_ray.benchmarks.scores import group_score, named_scores, scores_by
    from mica_ray.reporting.drawing.text_table import TextTable

    groups: dict[str, GroupScore] = {"all": group_score(questions, answers)}
    groups |= {score: group_score(questions, answers, name=score) for score in named_scores(answers)[1:]}
    for field in ("part", "language", "category"):
        found: Mapping[str, GroupScore] = scores_by(field, questions, answers)
        groups |= found if len(found) > 1 else {}
    rows = [
        (
            group,
            f"{score.score.estimate:.3f} [{score.score.low:.3f}, {score.score.high:.3f}]",
            f"{score.strict:.3f}",
            "-" if score.chance is None else f"{score.chance:.3f}",
            str(score.num_answers),
            str(score.num_unscored),
        )
        for group, score in groups.items()
        if score.num_answers
    ]
    header = ("", "score", "unscored as 0", "chance", "answers", "unscored")
    TextTable(f"{name}: {model}", header, tuple(rows)).show(console)
