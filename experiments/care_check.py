"""How often does the care check miss acute danger, and how often does it see danger where there is none?

Command:   python experiments/care_check.py --json care.json
Time:      two seconds
Expected:  recall 1.00 on plainly said danger, 0.61 and 0.82 of what is said in a roundabout way (held-out and
           tuning half), no false alarm; the held-out half was written before any rule and looked at once

Both halves are by the author of the rules: people write in more ways than that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

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
        Path, typer.Option(help="JSON lines of text, locale, kind, hard, half.")
    ] = OWN_MESSAGES,
    rules: Annotated[Path, typer.Option(help="As mica_ray/serving/care_rules.toml.")] = OWN_RULES,
    json_file: Annotated[Optional[Path], typer.Option("--json", metavar="FILE")] = None,  # noqa: UP045
) -> None:
    """Measure both halves and print them."""
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
    """Lay out one row per label."""
    recall = plain_recall(shares)
    drawn = Table(title=f"{half} half: recall on the plain messages {recall.estimate:.3f}", box=SIMPLE_HEAD)
    for column in ("label", "said", "found", "of", "share [95 %]", "right kind"):
        drawn.add_column(column, justify="left" if column in ("label", "said") else "right")
    for row in shares:
        share = row.share
        drawn.add_row(
            row.kind or "no danger",
            "hard" if row.hard else "plain",
            str(row.found),
            str(row.total),
            f"{share.estimate:.2f} [{share.low:.2f}, {share.high:.2f}]",
            str(row.right_kind) if row.kind else "",
        )
    return drawn


if __name__ == "__main__":
    typer.run(main)
