"""Everything the commands print fits in 80 columns: no heading, number or word of a help text is cut."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console, RenderableType

from mica_ray.chat.ledger import Tally
from mica_ray.cli.commands import app
from mica_ray.cli.progress import new_bars
from mica_ray.cli.promote import gate_table
from mica_ray.cli.sweep import TrialBoard
from mica_ray.evaluation.costs import cost_table
from mica_ray.serving.promotion import GateLine
from mica_ray.tuning.search import rounds
from mica_ray.tuning.trial import make_trials
from mica_ray.tuning.trial_book import TrialEntry
from tests.tuning.tiny_sweep import tiny_sweep

WIDTH = 80


def printed(content: RenderableType) -> str:
    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of each command below `command`, hidden ones included."""
    found = [path]
    for name, each in getattr(command, "commands", {}).items():
        found += commands(each, (*path, name))
    return found


ALL_COMMANDS = commands(typer.main.get_command(app))


def test_there_are_as_many_commands_as_expected() -> None:
    names = {" ".join(path) for path in ALL_COMMANDS}
    assert {"train", "sweep", "evaluate model", "evaluate empa", "report turns", "serve-key add"} <= names
    assert len(names) == 41  # groups and the program itself included


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_help_fits(path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    command: Any = typer.main.get_command(app)
    command.main([*path, "--help"], prog_name="mica", standalone_mode=False)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= WIDTH


def test_progress_bar_shows_count_and_time_left_with_a_long_description() -> None:
    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=True)
    bars = new_bars(console)
    task = bars.add_task("play cases: 1234 success, 234 other, 34 failed", total=12_345)
    bars.update(task, completed=1)
    bars.tasks[0].start_time = 0.0  # Hours ago.
    bars.update(task, completed=9_876)
    shown = printed(bars.get_renderable())
    assert "9876/12345" in shown and "left" in shown
    assert "…" not in shown
    # All words of the description are there, on as many lines as it needs.
    assert "1234 success" in " ".join(shown.split()) or "success" in shown


def test_cost_table_of_a_long_run_keeps_its_numbers() -> None:
    tally = Tally(
        calls=1_234_567,
        failed_calls=12_345,
        retries=23_456,
        prompt_tokens=1_234_567_890,
        completion_tokens=234_567_890,
        seconds=987_654.0,
        usd=12_345.67,
    )
    shown = printed(cost_table("Calls and costs", {"director": tally, "judge": tally}))
    assert "…" not in shown
    # Twice by role, and the sum has other numbers.
    assert shown.count("1,234,567,890") == shown.count("12,345.67") == 2
    assert {"calls", "failed", "retries", "seconds", "USD"} <= set(shown.split())


def test_trial_board_keeps_its_numbers(tmp_path: Path) -> None:
    sweep = tiny_sweep("embedded", 0.0, 0.5, seeds=(0, 1))
    board = TrialBoard(sweep, Console(width=WIDTH, file=io.StringIO(), force_terminal=False))
    for trial in make_trials(sweep, next(rounds(sweep)), tmp_path):
        waiting = TrialEntry(trial)
        metrics = {sweep.curve: -0.123456, sweep.metric: 61.2345}
        running = replace(waiting, status="running", retries=3, step=0, seconds=65.0, metrics=metrics)
        board.changed(waiting, running)
    shown = printed(board.table())
    assert "…" not in shown
    assert "61.23" in shown and "-0.123" in shown and "1:05" in shown


def test_gate_table_keeps_its_words() -> None:
    reason = "EPM-Q rose by 12.34 [10.12, 14.56], more than nothing, and that is enough for this condition"
    lines = (GateLine("score", "passed", reason), GateLine("care check", "not configured", reason))
    shown = printed(gate_table(Path("runs/a"), "before", lines))
    assert "…" not in shown and "not configured" in shown and shown.count("[10.12,") == 2
