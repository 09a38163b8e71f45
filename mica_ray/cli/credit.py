"""`mica credit FILES`: stored dialogues under several estimators, without new rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from rich.console import Console

from mica_ray.cli.credit_estimators import Mixing, named_estimators
from mica_ray.config.references import ConfigError
from mica_ray.credit.mica import Scope
from mica_ray.credit_study.comparison import CreditComparison, compare_credit
from mica_ray.credit_study.tables import credit_facts, credit_record, credit_tables, rich_table
from mica_ray.files import write_json
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.recordings.recorded_turns import Grouping, RecordedTurns, read_recorded_turns
from mica_ray.rewards import RewardKind, Rewards

RECORDED = "recorded"
"""The reward that our own dialogues say they earned, and IDR where a record says nothing."""

MOST_TURNS = 15
"""Rows of a table on the terminal; the page and the JSON have them all."""

Name = TypeVar("Name", bound=str)


def run_credit(
    files: Sequence[Path],
    *,
    estimators: Sequence[str],
    alpha: float,
    gamma: float,
    scope: str,
    reward: str,
    group_by: str | None,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Compare the estimators on the dialogues of the files; print tables, write what is asked for.

    Raises:
        ConfigError: one line for what cannot be credited or written.
    """
    for option, value in (("alpha", alpha), ("gamma", gamma)):
        if not 0 <= value <= 1:
            raise ConfigError(f"--{option} must be in [0, 1]; got {value}")
    mixing = Mixing(alpha, gamma, _one_of("scope", scope, cast("tuple[Scope, ...]", get_args(Scope))))
    chosen = named_estimators(estimators, mixing)
    grouping = group_by and _one_of("group-by", group_by, cast("tuple[Grouping, ...]", get_args(Grouping)))
    rewards = _rewards(reward, gamma=gamma)
    try:
        stored = read_recorded_turns(files, rewards=rewards, group_by=grouping or None)
        comparison = compare_credit(
            stored.turns,
            chosen,
            batch=stored.batch,
            gamma=gamma,
            reply_lengths=stored.reply_lengths[0],
        )
    except (RecordingError, ValueError) as error:
        raise ConfigError(str(error)) from error
    earned = "as recorded, else idr" if rewards is None else reward
    settings = f"Reward: {earned}; gamma {gamma:g}, alpha {alpha:g}, scope {scope}."
    console = Console()
    print_credit(stored, comparison, settings, console)
    if json_file is not None:
        _write_record(stored, comparison, settings, json_file=json_file)
    if out is not None:
        _write_page(stored, comparison, settings, gamma=gamma, out=out)
        console.print(f"{out}: opens offline", highlight=False, markup=False, soft_wrap=True)


def print_credit(
    stored: RecordedTurns, comparison: CreditComparison, settings: str, console: Console
) -> None:
    """Print what was credited and the tables, of the turns only the first."""
    for fact in (*credit_facts(stored, comparison), settings):
        console.print(fact, highlight=False, markup=False)
    for table in credit_tables(stored, comparison):
        rows = table.rows[:MOST_TURNS] if table.heads[0] == "turn" else table.rows
        left = len(table.rows) - len(rows)
        note = f"{table.note}; {left} more turns: --out or --json" if left else table.note
        console.print(rich_table(replace(table, rows=rows, note=note)))


def _rewards(reward: str, *, gamma: float) -> Rewards | None:
    allowed = cast("tuple[RewardKind | Literal['recorded'], ...]", (RECORDED, *get_args(RewardKind)))
    kind = _one_of("reward", reward, allowed)
    if kind == "recorded":
        return None
    try:
        # Only the potential form discounts.
        return Rewards(kind=kind, gamma=gamma if kind == "potential" else 1.0)
    except ValueError as error:
        raise ConfigError(f"--reward {reward}: {error}") from error


def _one_of(option: str, value: str, allowed: Sequence[Name]) -> Name:
    found = next((name for name in allowed if name == value), None)
    if found is None:
        raise ConfigError(f"--{option} must be one of {', '.join(allowed)}; got {value!r}")
    return found


def _write_record(
    stored: RecordedTurns, comparison: CreditComparison, settings: str, *, json_file: Path
) -> None:
    try:
        write_json(json_file, {"settings": settings, **credit_record(stored, comparison)})
    except OSError as error:
        raise ConfigError(
            f"--json {json_file}: cannot be written ({error.strerror}); choose another file"
        ) from error


def _write_page(
    stored: RecordedTurns, comparison: CreditComparison, settings: str, *, gamma: float, out: Path
) -> None:
    from mica_ray.files import write_whole
    from mica_ray.reporting.credit.page import credit_page

    try:
        write_whole(out, credit_page(stored, comparison, settings=settings, gamma=gamma))
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot be written ({error.strerror}); choose another file"
        ) from error
