"""Compare the conversations of several runs of EQ-Bench 3 with a judge, and rank their policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mica_ray.cli.eqbench3.judge import JudgeUnderConfig, ask_judge, judge_of, judge_values, read_data
from mica_ray.cli.options import new_console, save_json

if TYPE_CHECKING:
    from mica_ray.benchmarks.answers import AnswerLog
    from mica_ray.benchmarks.eqbench3.conversations import Conversation
    from mica_ray.benchmarks.eqbench3.elo import Ranking
    from mica_ray.benchmarks.eqbench3.items import EqBench3
    from mica_ray.benchmarks.eqbench3.pairwise import Conversations, Matchup
    from mica_ray.chat.ledger import Ledger


def rank(
    runs: Sequence[Path],
    judge: str,
    data_folder: Path,
    *,
    out: Path | None,
    inline: bool,
    sets: Sequence[str],
    json_file: Path | None,
) -> None:
    """Compare what is not compared yet, and print the ratings."""
    from mica_ray.benchmarks.answers import AnswerLog
    from mica_ray.benchmarks.eqbench3.elo import ranking
    from mica_ray.benchmarks.eqbench3.pairwise import comparisons, matchups
    from mica_ray.benchmarks.question import BenchmarkDataError
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.empa import slug
    from mica_ray.config import ConfigError, RunConfig
    from mica_ray.config.overrides import override
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.files import write_json

    console, ledger = new_console(), Ledger()
    referee = judge_of(override(RunConfig(), sets, values=judge_values(judge)))
    try:
        data = read_data(data_folder, console)
        played = {name: _read_run(data, run) for name, run in _named(runs).items()}
        wanted = matchups(data, played)
        folder = out or Path("runs") / f"{data.name}-elo-{slug(referee.name)}"
        log = AnswerLog(folder, referee.settings(data) | {"conversations": data.played_digest})
        _compare(data, wanted, played, referee, log, console, inline=inline, ledger=ledger)
        found = ranking(comparisons(wanted, log.find))
    except BenchmarkDataError as error:
        raise ConfigError(str(error)) from error
    record = {"benchmark": data.name, "judge": referee.name, **_record(found)}
    write_json(folder / "elo.json", record)
    save_json(json_file, record)
    _show(referee.name, found, console)
    if ledger.totals():
        console.print(cost_table("Calls and costs of this command", ledger.totals()))
    console.print(f"comparisons: {log.path}", highlight=False, soft_wrap=True)


def _named(runs: Sequence[Path]) -> Mapping[str, Path]:
    """Return the runs by the names of their policies; by their paths where two have one name.

    Raises:
        BenchmarkDataError: fewer than two runs, one twice, or a folder that is no run of this benchmark.
    """
    from mica_ray.benchmarks.question import BenchmarkDataError
    from mica_ray.files import JsonFileError, read_json_object

    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise BenchmarkDataError("Name at least two runs, each once.")
    names: list[str] = []
    for run in runs:
        try:
            names.append(str(read_json_object(run / "settings.json")["model"]))
        except (JsonFileError, KeyError) as error:
            raise BenchmarkDataError(
                f"{run}: not a run of EQ-Bench 3 ({error}). Play one with `mica evaluate eqbench3`."
            ) from error
    return {
        name if names.count(name) == 1 else f"{name} ({run})": run
        for name, run in zip(names, runs, strict=True)
    }


def _read_run(data: EqBench3, run: Path) -> Mapping[tuple[str, int], Conversation]:
    """Return the usable conversations of a run.

    Raises:
        BenchmarkDataError: they were played with other files.
    """
    from mica_ray.benchmarks.answers import read_answers
    from mica_ray.benchmarks.eqbench3.conversations import find_conversation
    from mica_ray.benchmarks.question import BenchmarkDataError
    from mica_ray.files import read_json_object

    if (digest := read_json_object(run / "settings.json").get("data")) != data.played_digest:
        raise BenchmarkDataError(
            f"{run}: was played with other prompts (data {digest}, not {data.played_digest}). Name its data "
            "with --data DIR, or play it again."
        )
    answers = read_answers(run / "answers.jsonl")
    samples = sorted({sample for _, sample in answers})
    found = [
        find_conversation(data, item, sample, lambda question, number: answers.get((question, number)))
        for item in data.items
        for sample in samples
    ]
    return {(one.item.id, one.sample): one for one in found if one is not None and one.problem is None}


def _compare(
    data: EqBench3,
    wanted: Sequence[Matchup],
    played: Conversations,
    referee: JudgeUnderConfig,
    log: AnswerLog,
    console: Console,
    *,
    inline: bool,
    ledger: Ledger,
) -> None:
    """Make the comparisons that are missing, under a progress bar."""
    from mica_ray.benchmarks.eqbench3.pairwise import compare_task

    missing = [matchup for matchup in wanted if log.find(matchup.key, matchup.sample) is None]
    ask_judge(
        [compare_task(data, matchup, played) for matchup in missing],
        len(wanted) - len(missing),
        referee,
        log,
        console,
        title="compare eqbench3",
        inline=inline,
        ledger=ledger,
    )


def _record(found: Ranking) -> dict[str, object]:
    return {
        "elo": {name: asdict(value) for name, value in found.elo.items()},
        "win_fraction": {name: asdict(value) for name, value in found.win_fraction.items()},
        "compared_pairs": found.num_compared,
        "items": found.num_items,
        "pairs_lacking_an_order": found.num_half,
        "invalid_comparisons": found.num_invalid,
        "first_wins_fraction": asdict(found.first_wins),
        "order_flips_fraction": asdict(found.order_flips),
    }


def _show(judge: str, found: Ranking, console: Console) -> None:
    from mica_ray.reporting.drawing.text_table import TextTable

    rows = [
        (name, f"{elo.estimate:.0f} [{elo.low:.0f}, {elo.high:.0f}]", f"{won.estimate:.0%}")
        for (name, elo), won in zip(found.elo.items(), found.win_fraction.values(), strict=True)
    ]
    rows.sort(key=lambda row: -found.elo[row[0]].estimate)
    TextTable(f"eqbench3, compared by {judge}", ("", "Elo", "pairs won"), tuple(rows)).show(console)
    console.print(
        f"{found.num_compared} pairs on {found.num_items} items. Ratings are relative to these policies, "
        "with mean 1200; they cannot be placed on EQ-Bench's leaderboard.\n"
        f"Order: the policy shown first won {found.first_wins.estimate:.0%} of the comparisons; the winner "
        f"changed with the order in {found.order_flips.estimate:.0%} of the pairs. Left out: "
        f"{found.num_half} pairs that lack an order; {found.num_invalid} comparisons cannot be read.",
        highlight=False,
        soft_wrap=True,
    )
