"""Costs of calls, as tables and per point gained. chat/ledger.py counts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mica_ray.chat.ledger import Tally, total
from mica_ray.evaluation.tables import terminal_table

if TYPE_CHECKING:
    from rich.table import Table


def usd_per_point(usd: float, points: float) -> float | None:
    """Return the USD per point of EPM-Q gained; None without a gain, or if no call had a price."""
    return usd / points if usd > 0 and points > 0 else None


COST_HEADS = ("", "calls", "failed", "retries", "tokens in", "tokens out", "seconds", "USD")
COST_NOTE = "Seconds are summed over concurrent calls. Tokens of failed attempts are unknown."


def cost_rows(costs: Mapping[str, Tally]) -> list[tuple[str, ...]]:
    """Return one row of texts per role, and a row with their sum, under `COST_HEADS`."""
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
    """Return one row per role and their sum; headings of two words are wrapped to fit 80 columns."""
    heads = [heading.replace(" ", "\n") for heading in COST_HEADS]
    return terminal_table(title, heads, cost_rows(costs), caption=COST_NOTE)
