"""The cost of calls, as a table and per point gained."""

from __future__ import annotations

from rich.console import Console

from mica_ray.chat.ledger import Tally
from mica_ray.evaluation.costs import COST_HEADS, cost_rows, cost_table, usd_per_point


def test_price_of_a_point_needs_a_price_and_a_gain() -> None:
    assert usd_per_point(30.0, 12.0) == 2.5
    assert usd_per_point(30.0, 0.0) is None
    assert usd_per_point(30.0, -1.0) is None
    assert usd_per_point(0.0, 12.0) is None
    assert usd_per_point(30.0, float("nan")) is None


def test_table_has_a_row_per_role_and_their_sum() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(
            cost_table("costs", {"judge": Tally(calls=1200, usd=2.5), "actor": Tally(calls=34, usd=0.25)})
        )
    rows = [
        line.split()
        for line in capture.get().splitlines()
        if line.split()[:1] in (["actor"], ["judge"], ["all"])
    ]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("actor", "34", "0.25"),
        ("judge", "1,200", "2.50"),
        ("all", "1,234", "2.75"),
    ]


def test_table_of_a_long_run_shows_every_number_and_heading_at_80_columns() -> None:
    long_run = Tally(
        calls=57_648,
        failed_calls=1_204,
        retries=2_311,
        prompt_tokens=239_172_645,
        completion_tokens=3_917_264,
        seconds=123_456.0,
        usd=1234.56,
    )
    costs = {"actor": long_run, "director": long_run, "judge": long_run, "policy": long_run}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(cost_table("costs", costs))
    printed = capture.get()
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    words = printed.split()
    assert set(" ".join(COST_HEADS).split()) <= set(words)
    assert {cell for row in cost_rows(costs) for cell in row} <= set(words)
