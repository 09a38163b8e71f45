"""The page of `mica judges card`: whether judges may be used, and every measurement behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from mica_ray.judges.card.conclusion import MAX_SHIFT, MIN_SELF_ALPHA
from mica_ray.judges.card.noise import SCOPES
from mica_ray.judges.card.presentations import CONDITIONS
from mica_ray.judges.card.record import Card
from mica_ray.reporting.drawing.page import Section, page, plotted, table
from mica_ray.reporting.judges.figures import flattened, interval_bars, kappa_map, noise_bars, turn_scatter
from mica_ray.reporting.judges.tables import (
    AGREEMENT_HEADS,
    ANSWER_HEADS,
    CHECK_HEADS,
    COST_HEADS,
    agreement_rows,
    answer_rows,
    between_rows,
    canary_rows,
    check_rows,
    cost_rows,
    interval,
    noise_rows,
)
from mica_ray.statistics import Interval

MOST_TURNS = 8
"""Turns that are shown with their texts: those with the largest spread within repeats."""
_MOST_CHARACTERS = 400


def card_page(card: Card) -> str:
    """Return the page as HTML. It works offline, and all text of dialogues and judges is escaped."""
    settings = card.settings
    lead = (
        f"{settings.num_turns} turns of {settings.num_dialogues} dialogues in {settings.source}, domain "
        f"{settings.domain}, {settings.repeats} repeats at temperature {settings.temperature:g}."
    )
    sections = [
        Section("Conclusion", _conclusion(card)),
        Section("Agreement with itself", _self_agreement(card)),
        Section("Agreement between judges", _between(card)),
        Section("Other wording", _sensitivity(card)),
        Section("Drift", _drift(card)),
        Section("Bias", _bias(card)),
        Section("Replies with known levels", _canaries(card)),
        Section("Answers and cost", _answers(card)),
        Section("Turns with the largest spread", _spread_turns(card)),
    ]
    return page("Reliability of judges", sections, lead=lead)


def _conclusion(card: Card) -> Markup:
    parts = []
    for found, conclusion in zip(card.judges, card.conclusions, strict=True):
        parts.append(Markup("<h3>{}</h3><p>{}</p>").format(found.name, conclusion.line))
        parts.append(table(CHECK_HEADS, check_rows(conclusion)))
    notes = [
        "failed: the whole 95 % interval misses the limit. undecided: the interval contains the limit; more "
        "turns decide. The reason of each limit is in judges/card/conclusion.py."
    ]
    if card.settings.num_unknown_people:
        notes.append(
            f"{card.settings.num_unknown_people} turns were judged with an empty persona, because no card or "
            "story of their user is known. The recorded judge may have seen it. Name the cards with --cards."
        )
    return Markup().join([*parts, *map(_note, notes)])


def _self_agreement(card: Card) -> Markup:
    alphas = {
        found.name: {scope: found.self_agreement[scope].alpha_ordinal for scope in SCOPES}
        for found in card.judges
        if found.self_agreement is not None
    }
    noise = table(("judge", "C", "A", "P", "degrees of freedom"), noise_rows(card.judges))
    if not alphas:
        return _note("Judged once. Set --repeats 2 or more.") + noise
    return (
        plotted(
            interval_bars(alphas, y="Krippendorff's alpha", limits=[MIN_SELF_ALPHA]),
            title="Agreement of repeats",
            caption="Ordinal alpha of v_t between repeats of the same question. 1 is perfect, 0 is chance.",
        )
        + table(AGREEMENT_HEADS, agreement_rows(card))
        + plotted(
            noise_bars(card),
            title="Noise of v_t",
            caption="Standard deviation within the repeats of a turn, pooled over turns.",
        )
        + noise
    )


def _between(card: Card) -> Markup:
    if card.between is None:
        return _note("One judge, and the file has no recorded levels.")
    heads = ("axis", "alpha", "alpha of signs", "ICC", "mean quadratic kappa")
    return plotted(
        kappa_map(card),
        title="Quadratic kappa of every pair",
        caption="Single judgements of v_t, all axes. Diagonal: a judge with its own repeats.",
    ) + table(heads, between_rows(card.between))


def _sensitivity(card: Card) -> Markup:
    shifts = {
        found.name: flattened({name: one.shift for name, one in found.sensitivity.items()})
        for found in card.judges
    }
    rows = [
        (found.name, CONDITIONS[name], scope, interval(one.shift[scope]), interval(alpha.alpha_ordinal))
        for found in card.judges
        for name, one in found.sensitivity.items()
        for scope, alpha in one.agreement.items()
    ]
    if not rows:
        return _note("Not asked, or the judge reads no instructions.")
    heads = ("judge", "condition", "axis", "shift, points", "alpha with the first repeat")
    return plotted(
        interval_bars(shifts, y="shift of v_t, points", limits=[-MAX_SHIFT, MAX_SHIFT]),
        title="Shift by wording and padding",
        caption="Mean of v_t in the condition minus the mean of the repeats of the same turns.",
    ) + table(heads, rows, numbers=False)


def _drift(card: Card) -> Markup:
    rows = [
        (found.name, f"{place.replace('_', ' ')}, {scope}", interval(drift.judge[scope], 3),
         interval(drift.beyond_recorded[scope], 3))
        for found in card.judges
        for place, drift in found.drift.items()
        for scope in SCOPES
    ]  # fmt: skip
    heads = ("judge", "along", "slope, points per turn", "beyond the recorded judge")
    return plotted(
        turn_scatter(card),
        title="Scores along the dialogue",
        caption="One point per turn, with least-squares lines. Replies change too: what counts is the slope "
        "of the difference to the recorded judge.",
    ) + table(heads, rows)


def _bias(card: Card) -> Markup:
    bars: dict[str, Mapping[str, Interval]] = {}
    for found in card.judges:
        one = {f"correlation with {trait}": bias.judge for trait, bias in found.bias.items()}
        one |= {f"{trait}, recorded judge": bias.recorded for trait, bias in found.bias.items()}
        bars[found.name] = one
    rows = [
        (found.name, what, interval(one[scope]))
        for found in card.judges
        for name, one in (("echo", found.echo_points), ("late position", found.late_shift))
        if one is not None
        for scope in SCOPES
        for what in (f"{name}, {scope}",)
    ]
    probes = table(("judge", "probe", "points"), rows) if rows else Markup()
    return (
        plotted(
            interval_bars(bars, y="correlation"),
            title="Correlation of v_t with length and echo of the reply",
            caption="Length: logarithm of its characters. Echo: share of it that repeats the message.",
        )
        + probes
        + _note(
            "Echo: points of the user's own message in place of the reply. Late position: points of a reply "
            "with known levels after three empty turns, minus those at the start."
        )
    )


def _canaries(card: Card) -> Markup:
    rows = canary_rows(card.judges)
    return table(("judge", "reply", "levels"), rows, numbers=False) if rows else _note("Not asked.")


def _answers(card: Card) -> Markup:
    return (
        table(ANSWER_HEADS, answer_rows(card.judges))
        + _note(
            "Invalid answers are left out, and are never a score of 0. Questions without one are asked again."
        )
        + table(COST_HEADS, cost_rows(card.judges))
    )


def _spread_turns(card: Card) -> Markup:
    rows: list[tuple[str, ...]] = []
    for found in card.judges:
        spread = np.nan_to_num(_spread(found.turns))
        for place in np.argsort(-spread, kind="stable")[:MOST_TURNS].tolist():
            turn = card.turns[place]
            if spread[place] > 0:
                scores = " / ".join(_points(repeat) for repeat in found.turns[place])
                name = f"{turn.scenario.id}, turn {turn.number}"
                rows.append((found.name, name, _short(turn.user), _short(turn.reply), scores))
    if not rows:
        return _note("All repeats are equal.")
    return table(("judge", "turn", "message", "reply", "v_t (C, A, P) of each repeat"), rows, numbers=False)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return [N], the range of v_t within repeats, summed over axes; NaN repeats are left out."""
    low = np.where(np.isnan(values), np.inf, values).min(axis=1)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    return np.where(np.isfinite(low), high - np.where(np.isfinite(low), low, 0), 0.0).sum(axis=1)


def _points(repeat: np.ndarray) -> str:
    return "invalid" if np.isnan(repeat).any() else ", ".join(f"{value:+g}" for value in repeat)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _note(text: str) -> Markup:
    return Markup('<p class="note">{}</p>').format(text)
