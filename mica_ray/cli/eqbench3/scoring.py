"""Play EQ-Bench 3 with a policy, have a judge score the conversations, and print the scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mica_ray.cli.eqbench3.judge import (
    CONCURRENCY,
    JudgeUnderConfig,
    ask_judge,
    judge_of,
    judge_values,
    read_data,
    report_failures,
)
from mica_ray.cli.options import new_console, save_json

if TYPE_CHECKING:
    from mica_ray.benchmarks.answers import AnswerLog
    from mica_ray.benchmarks.eqbench3.conversations import Conversation
    from mica_ray.benchmarks.eqbench3.items import EqBench3, Item
    from mica_ray.benchmarks.eqbench3.summary import RubricSummary
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import PolicyUnderTest
    from mica_ray.types import Sampling


def evaluate(
    policy: str,
    judge: str,
    data_folder: Path,
    *,
    samples: int,
    limit: int | None,
    out: Path | None,
    inline: bool,
    sets: Sequence[str],
    json_file: Path | None,
) -> None:
    """Play what is missing, judge what is not judged, and print the scores."""
    from mica_ray.benchmarks.answers import AnswerLog
    from mica_ray.benchmarks.eqbench3.summary import summarize
    from mica_ray.benchmarks.question import BenchmarkDataError
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import read_policy, slug
    from mica_ray.config import ConfigError
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.files import write_json

    console, ledger = new_console(), Ledger()
    tested = read_policy(policy, judge_values(judge), sets)
    referee = judge_of(tested.config)
    try:
        data = read_data(data_folder, console)
        sampling = _sampling(tested)
        folder = out or Path("runs") / f"{data.name}-{slug(tested.name)}"
        played = AnswerLog(folder, _settings(data, tested, sampling))
        judged = AnswerLog(folder / f"judge-{slug(referee.name)}", referee.settings(data))
    except BenchmarkDataError as error:
        raise ConfigError(str(error)) from error
    wanted = _wanted(data, samples, limit)
    _play(data, wanted, tested, sampling, played, console, inline=inline, ledger=ledger)
    finished = _finished(data, wanted, played)
    _judge(data, finished, referee, judged, console, inline=inline, ledger=ledger)
    summary = summarize(data, wanted, finished, judged.find)
    record = {"benchmark": data.name, "model": tested.name, "judge": referee.name, **summary.record()}
    write_json(judged.path.with_name("score.json"), record)
    save_json(json_file, record)
    _show(tested.name, referee.name, summary, console)
    if ledger.totals():
        console.print(cost_table("Calls and costs of this command", ledger.totals()))
    console.print(f"conversations: {played.path}", highlight=False, soft_wrap=True)
    console.print(f"judgements: {judged.path}", highlight=False, soft_wrap=True)


def _settings(data: EqBench3, tested: PolicyUnderTest, sampling: Sampling) -> dict[str, object]:
    """Return what a reply depends on."""
    return {
        "benchmark": data.name,
        "model": tested.name,
        "sampling": asdict(sampling),
        "data": data.played_digest,
    }


def _sampling(tested: PolicyUnderTest) -> Sampling:
    """Return the benchmark's sampling, with room for the conversation in the policy's context."""
    from mica_ray.benchmarks.eqbench3.conversations import SAMPLING

    room = max(1, tested.config.rollout.context_length // 2)
    return replace(SAMPLING, max_tokens=min(SAMPLING.max_tokens, room))


def _wanted(data: EqBench3, samples: int, limit: int | None) -> list[tuple[Item, int]]:
    """Return items and sample numbers, the first samples first."""
    from mica_ray.cli.questions import spread

    chosen = {question.id for question in spread([item.question for item in data.items], limit)}
    return [(item, sample) for sample in range(samples) for item in data.items if item.id in chosen]


def _finished(data: EqBench3, wanted: Sequence[tuple[Item, int]], played: AnswerLog) -> list[Conversation]:
    from mica_ray.benchmarks.eqbench3.conversations import find_conversation

    found = [find_conversation(data, item, sample, played.find) for item, sample in wanted]
    return [conversation for conversation in found if conversation is not None]


def _play(
    data: EqBench3,
    wanted: Sequence[tuple[Item, int]],
    tested: PolicyUnderTest,
    sampling: Sampling,
    played: AnswerLog,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Play the conversations that are not finished, under a progress bar over their turns."""
    from mica_ray.benchmarks.eqbench3.conversations import num_replies_done, play_items
    from mica_ray.chat.model import ChatError
    from mica_ray.cli.progress import new_bars
    from mica_ray.config.role_config import SCRIPTED
    from mica_ray.launch.text_policy import policy_model

    turns = {(item.id, sample): len(data.turns(item)) for item, sample in wanted}
    done = {(item.id, sample): num_replies_done(data, item, sample, played.find) for item, sample in wanted}
    missing = [(item, sample) for item, sample in wanted if done[item.id, sample] < turns[item.id, sample]]
    if not missing:
        console.print(f"{played.path}: all {len(wanted)} conversations are finished.", highlight=False)
        return
    bars = new_bars(console)
    task = bars.add_task("play eqbench3", total=sum(turns.values()), completed=sum(done.values()))
    # The judge is started when the conversations are finished, and not beside the policy.
    roles = tested.config.roles.model_copy(update={"judge": SCRIPTED})
    config = tested.config.model_copy(update={"roles": roles})

    async def play() -> tuple[ChatError, ...]:
        async with policy_model(config, text_policy=tested.text, inline=inline, ledger=ledger) as model:
            return await play_items(
                data,
                missing,
                model,
                sampling,
                find=played.find,
                record=played.record,
                advance=lambda turns: bars.advance(task, turns),
                concurrency=CONCURRENCY,
            )

    before = len(played.answers)
    with bars:
        failures = asyncio.run(play())
    report_failures(failures, len(played.answers) - before, console)


def _judge(
    data: EqBench3,
    finished: Sequence[Conversation],
    referee: JudgeUnderConfig,
    judged: AnswerLog,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Judge the finished conversations that have no judgement yet, under a progress bar."""
    from mica_ray.benchmarks.eqbench3.rubric import judge_task

    usable = [one for one in finished if one.problem is None]
    missing = [one for one in usable if judged.find(one.item.id, one.sample) is None]
    ask_judge(
        [judge_task(data, conversation) for conversation in missing],
        len(usable) - len(missing),
        referee,
        judged,
        console,
        title="judge eqbench3",
        inline=inline,
        ledger=ledger,
    )


def _show(model: str, judge: str, summary: RubricSummary, console: Console) -> None:
    from mica_ray.reporting.drawing.text_table import TextTable

    rows = [
        (
            value,
            f"{score.score.estimate:.1f} [{score.score.low:.1f}, {score.score.high:.1f}]",
            str(score.num_questions),
            str(score.num_answers - score.num_unscored),
        )
        for scores in summary.groups.values()
        for value, score in scores.items()
        if score.num_answers
    ]
    TextTable(f"eqbench3: {model}", ("", "score 0-100", "items", "judged"), tuple(rows)).show(console)
    for name, values in summary.criteria.items():
        rated = [
            (criterion, f"{value.estimate:.1f} [{value.low:.1f}, {value.high:.1f}]")
            for criterion, value in values.items()
        ]
        TextTable(f"criteria of {name}", ("", "mean 0-20"), tuple(rated)).show(console)
    console.print(
        f"judge: {judge}. Without a score: {summary.num_unusable} conversations with an unusable reply, "
        f"{summary.num_invalid} judgements that cannot be read, {summary.num_missing} that are missing. "
        f"{summary.num_unsectioned} of {summary.num_replies} replies lack their sections.",
        highlight=False,
        soft_wrap=True,
    )
