"""Rows of a judge's card, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mica_ray.chat.ledger import Tally
from mica_ray.judges.agreement import Agreement
from mica_ray.judges.card.conclusion import Conclusion
from mica_ray.judges.card.findings import Findings
from mica_ray.judges.card.noise import SCOPES
from mica_ray.judges.card.record import Card
from mica_ray.statistics import Interval
from mica_ray.types import AXES

CHECK_HEADS = ("requirement", "value", "limit", "")
AGREEMENT_HEADS = ("judge", "axis", "alpha", "alpha of signs", "ICC", "quadratic kappa", "opposite signs")
ANSWER_HEADS = (
    "judge",
    "asked",
    "valid",
    "repaired",
    "invalid",
    "reasons",
    "no answer",
    "unfound quotations",
)
COST_HEADS = ("judge", "calls", "tokens in", "tokens out", "seconds per judgement", "USD")
_NOTHING = "–"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number as text; a dash if it is not defined."""
    return _NOTHING if value is None or value != value else f"{value:.{digits}f}"


def interval(value: Interval | None, digits: int = 2) -> str:
    """Return an estimate with its interval; without one if both ends are equal to it."""
    if value is None or value.estimate != value.estimate:
        return _NOTHING
    if value.low == value.estimate == value.high:
        return number(value.estimate, digits)
    return f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def check_rows(conclusion: Conclusion) -> list[tuple[str, str, str, str]]:
    """Return one row per requirement."""
    return [(check.name, interval(check.value), check.limit, check.state) for check in conclusion.checks]


def agreement_rows(card: Card) -> list[tuple[str, ...]]:
    """Return the agreement of every judge with itself, one row per axis."""
    rows: list[tuple[str, ...]] = []
    for found in card.judges:
        for scope in SCOPES if found.self_agreement is not None else ():
            assert found.self_agreement is not None
            flips = None if found.sign_flips is None else found.sign_flips[scope]
            one = found.self_agreement[scope]
            rows.append((found.name, scope, *_agreement_cells(one), interval(flips)))
    return rows


def between_rows(found: Mapping[str, Agreement]) -> list[tuple[str, ...]]:
    """Return the agreement of all raters, one row per axis."""
    return [(scope, *_agreement_cells(found[scope])) for scope in SCOPES]


def _agreement_cells(one: Agreement) -> tuple[str, ...]:
    kappas = [kappa for kappa in one.kappa_quadratic.values() if kappa == kappa]
    mean = sum(kappas) / len(kappas) if kappas else None
    return interval(one.alpha_ordinal), interval(one.alpha_sign), number(one.icc), number(mean)


def answer_rows(judges: Sequence[Findings]) -> list[tuple[str, ...]]:
    """Return what became of the questions, one row per judge."""
    return [
        (
            found.name,
            str(found.counts.asked),
            str(found.counts.valid),
            str(found.counts.repaired),
            interval(found.counts.invalid_fraction),
            ", ".join(f"{reason}: {count}" for reason, count in found.counts.invalid.items()) or _NOTHING,
            str(found.counts.failed),
            str(found.counts.unfound_evidence),
        )
        for found in judges
    ]


def noise_rows(judges: Sequence[Findings]) -> list[tuple[str, ...]]:
    """Return the standard deviation within repeats, one row per judge."""
    return [
        (found.name, *(number(found.noise.sd[axis]) for axis in AXES), str(found.noise.degrees))
        for found in judges
    ]


def canary_rows(judges: Sequence[Findings]) -> list[tuple[str, str, str]]:
    """Return what every judge found wrong levels in."""
    return [
        (found.name, name, "; ".join(problems) or "right")
        for found in judges
        for name, problems in (found.canaries or {}).items()
    ]


def cost_rows(judges: Sequence[Findings]) -> list[tuple[str, ...]]:
    """Return calls, tokens, time and price, one row per judge."""
    rows: list[tuple[str, ...]] = []
    for found in judges:
        tally: Tally = found.cost.total
        seconds = found.cost.seconds
        each = sum(seconds) / len(seconds) if seconds else None
        counts = (tally.calls, tally.prompt_tokens, tally.completion_tokens)
        rows.append((found.name, *(f"{count:,}" for count in counts), number(each), f"{tally.usd:.2f}"))
    return rows
