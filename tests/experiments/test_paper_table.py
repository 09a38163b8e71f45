"""The commands behind the table of small models: valid, resumable, each on its own."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command

from mica_ray.cli.commands import app
from mica_ray.config.references import load_module_file

FILE = Path(__file__).parents[2] / "experiments" / "paper_table.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return load_module_file(FILE)


def parse(arguments: tuple[str, ...]) -> dict[str, object]:
    """Return the parameters of a command line, or raise what the command would print."""
    command: Any = get_command(app)
    rest = list(arguments)
    while rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command.make_context(" ".join(arguments[:3]), rest).params


def test_every_command_is_one_that_mica_understands(table: ModuleType, tmp_path: Path) -> None:
    found = table.steps(Path("s"), Path("l"), tmp_path, tmp_path / "out", limit=25, cases=3)
    assert [step.name for step in found] == [
        "rate", "eqbench2_small", "eqbench2_larger", "emobench_small", "emobench_larger", "empa", "eqbench3",
        "screen", "judge_card", "table",
    ]  # fmt: skip
    parsed = {step.name: parse(step.arguments) for step in found}
    assert parsed["emobench_larger"]["limit"] == 25
    assert (parsed["empa"]["cases"], parsed["screen"]["limit"]) == ("3", 6)
    assert parsed["judge_card"]["repeats"] == 2
    assert all(step.result.parent == tmp_path / "out" for step in found)


def test_a_failed_step_stops_no_other_and_a_finished_one_is_not_repeated(
    table: ModuleType, tmp_path: Path
) -> None:
    steps = [table.Step(name, (name,), tmp_path / f"{name}.json") for name in ("a", "b", "c")]
    asked: list[str] = []

    def run(step: Any) -> int:
        asked.append(step.name)
        return 2 if asked == ["a", "b"] else 0

    console = Console(file=io.StringIO())
    assert table.run_steps(steps, run, console) == ["b"]
    assert table.run_steps(steps, run, console) == []
    assert asked == ["a", "b", "c", "b"]
    assert table.run_steps(steps[:1], run, console, again=True) == []
    assert asked[4:] == ["a"]
