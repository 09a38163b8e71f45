"""What calls cost, as a table for the terminal and per point gained. Counting is done in chat/ledger.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mica_ray.chat.ledger import Tally, total

if TYPE_CHECKING:
    from rich.table import Table


def usd_per_point(usd: float, points: float) -> float | None:
    """Give the USD per point of EPM-Q gained; None without a gain, or where nothing had a price."""
    return usd / points if usd > 0 and points > 0 else None


def cost_table(title: str, costs: Mapping[str, Tally]) -> Table:
    """Lay out one row per role and their sum."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    caption = "seconds are added up over calls side by side; tokens of lost attempts are unknown"
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    for column in ("", "calls", "failed", "retries", "tokens in", "tokens out", "seconds", "USD"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for role, tally in (*sorted(costs.items()), ("all", total(costs))):
        counts = (
            tally.calls,
            tally.failed_calls,
            tally.retries,
            tally.prompt_tokens,
            tally.completion_tokens,
        )
        table.add_row(role, *(f"{count:,}" for count in counts), f"{tally.seconds:,.0f}", f"{tally.usd:,.2f}")
    return table
