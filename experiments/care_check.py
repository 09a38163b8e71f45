"""How often does the care check miss acute danger, and how often does it see danger where there is none?

Command:   python experiments/care_check.py --json care.json
Time:      two seconds
Expected:  recall 1.00 on plain messages of danger, 0.61 and 0.82 on indirect ones (held-out and tuning half),
           no false alarm. The held-out half was written before any rule and evaluated once.

Both halves and the rules have the same author; people write in more ways than that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray.files import write_json
from mica_ray.safety.check import HelpLines
from mica_ray.safety.measure import (
    OWN_MESSAGES,
    CareShare,
    care_record,
    measure,
    plain_recall,
    read_messages,
)
from mica_ray.safety.rules import OWN_RULES, CareRules, RuleCare


def main(
    messages: Annotated[
        Path, typer.Option(help="JSON lines with text, locale, kind, hard, half.")
    ] = OWN_MESSAGES,
    rules: Annotated[Path, typer.Option(help="Rules in the form of mica_ray/safety/rules.toml.")] = OWN_RULES,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the table to this file.")
    ] = None,
) -> None:
    """Measure the check on both halves and print a table for each."""
    check = RuleCare(CareRules.read(rules), HelpLines())
    found = read_messages(messages)
    record: dict[str, object] = {}
    for half in ("tuning", "held_out"):
        shares = measure(check, [message for message in found if message.half == half])
        if shares:
            Console().print(table(half.replace("_", " "), shares))
            record[half] = care_record(shares)
    if json_file is not None:
        write_json(json_file, record)


def table(half: str, shares: tuple[CareShare, ...]) -> Table:
    """Return a table with one row per label."""
    recall = plain_recall(shares)
    drawn = Table(title=f"{half} half: recall on the plain messages {recall.estimate:.3f}", box=SIMPLE_HEAD)
    for column in ("label", "wording", "found", "of", "share [95 %]", "right kind"):
        drawn.add_column(column, justify="left" if column in ("label", "wording") else "right")
    for row in shares:
        share = row.share
        drawn.add_row(
            row.kind or "no danger",
            "indirect" if row.hard else "plain",
            str(row.found),
            str(row.total),
            f"{share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}]",
            str(row.right_kind) if row.kind else "",
        )
    return drawn


if __name__ == "__main__":
    typer.run(main)
