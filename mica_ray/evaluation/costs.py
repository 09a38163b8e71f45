"""What calls cost, as tables and per point gained. Counting is done in chat/ledger.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mica_ray.chat.ledger import Tally, total

if TYPE_CHECKING:
    from rich.table import Table


def usd_per_point(usd: float, points: float) -> float | None:
    """Give the USD per point of EPM-Q gained; None without a gain, or where nothing had a price."""
    return usd / points if usd > 0 and points > 0 else None


COST_HEADS = ("", "calls", "failed", "retries", "tokens in", "tokens out", "seconds", "USD")
COST_NOTE = "seconds are added up over calls side by side; tokens of lost attempts are unknown"


def cost_rows(costs: Mapping[str, Tally]) -> list[tuple[str, ...]]:
    """Give one row of texts per role, and their sum, under `COST_HEADS`."""
    return [
        (
            role,
            *(
                f"{count:,}"
                for count in (
                    tally.calls,
                    tally.failed_calls,
                    tally.retries,
                    tally.prompt_tokens,
                    tally.completion_tokens,
                )
            ),
            f"{tally.seconds:,.0f}",
            f"{tally.usd:,.2f}",
        )
        for role, tally in (*sorted(costs.items()), ("all", total(costs)))
    ]


def cost_table(title: str, costs: Mapping[str, Tally]) -> Table:
    """Lay out one row per role and their sum."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, caption=COST_NOTE, box=SIMPLE_HEAD)
    for column in COST_HEADS:
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for row in cost_rows(costs):
        table.add_row(*row)
    return table
