"""The page and the record of `mica data simulator`; all text of dialogues is escaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mica_ray.reporting.drawing.line_chart import page_chart
from mica_ray.reporting.drawing.page import Section, page, picture, rendered, table
from mica_ray.reporting.simulators.figures import distance_figure, turn_chart
from mica_ray.simulators.comparison import MeasuredUsers, MeasureGap, SimulatorQuality, turn_means
from mica_ray.simulators.measures import MEASURES
from mica_ray.statistics import Interval

MOST_EXAMPLES = 3
"""Dialogues of each set that the page shows."""

GAP_HEADS = ("measure", "people", "simulated", "distance", "yardstick", "ratio", "")


def warnings_of(quality: SimulatorQuality) -> list[str]:
    """Return what limits the comparison, one sentence each."""
    found = [
        f"{one.users.name} is in language {one.users.language}, {quality.people.name} in "
        f"{quality.people.language}: their word counts are not comparable, and no ratio means anything."
        for one in quality.simulated
        if not one.is_comparable
    ]
    for users in (quality.people, *(one.users for one in quality.simulated)):
        if users.source.num_left_out:
            found.append(f"{users.name}: {users.source.num_left_out} dialogues failed or have no message.")
        if users.num_other_language:
            found.append(f"{users.name}: {users.num_other_language} dialogues in other languages left out.")
    return found


def gap_rows(gaps: Sequence[MeasureGap], *, is_comparable: bool = True) -> tuple[tuple[str, ...], ...]:
    """Return the cells under GAP_HEADS, a row per measure."""
    return tuple(
        (
            f"{gap.measure.title} ({gap.measure.unit})",
            _interval(gap.people, 2),
            _interval(gap.simulated, 2),
            _number(gap.distance, 3),
            _number(gap.yardstick, 3),
            _interval(gap.ratio, 1),
            _verdict(gap, is_comparable=is_comparable),
        )
        for gap in gaps
    )


def quality_record(quality: SimulatorQuality) -> dict[str, object]:
    """Return the comparison as JSON. Values that are not defined are null."""
    return {
        "human": _users_record(quality.people),
        "messages_compared": quality.num_turns,
        "warnings": warnings_of(quality),
        "simulated": {
            one.users.name: {
                **_users_record(one.users),
                "comparable": one.is_comparable,
                "measures": {gap.measure.key: _gap_record(gap, one.is_comparable) for gap in one.gaps},
            }
            for one in quality.simulated
        },
    }


def simulator_page(quality: SimulatorQuality) -> str:
    """Return the page as HTML. It works offline."""
    figure = distance_figure(quality)
    notes = Markup().join(Markup("<p>{}</p>").format(text) for text in warnings_of(quality))
    tables = Markup().join(
        Markup("<h3>{}</h3>").format(one.users.name)
        + table(GAP_HEADS, gap_rows(one.gaps, is_comparable=one.is_comparable))
        for one in quality.simulated
    )
    sections = [
        Section(
            "Distances", notes + picture(figure.png(), title=figure.title, caption=figure.caption) + tables
        ),
        Section("By message", page_chart(turn_chart(quality))),
        Section(
            "Measures", table(("measure", "meaning"), [(m.title, m.meaning) for m in MEASURES], numbers=False)
        ),
        Section("Examples", _examples(quality)),
    ]
    lead = (
        f"{quality.people.name}: {len(quality.people.values)} dialogues with people. "
        + " ".join(f"{one.users.name}: {len(one.users.values)} simulated." for one in quality.simulated)
        + f" The first {quality.num_turns} messages of each dialogue are compared."
    )
    return page("Simulated users and people", sections, lead=lead)


def _examples(quality: SimulatorQuality) -> Markup:
    blocks: list[Markup] = []
    for users in (quality.people, *(one.users for one in quality.simulated)):
        for dialogue in users.source.dialogues[:MOST_EXAMPLES]:
            rows = [
                (str(number), text)
                for number, text in enumerate(dialogue.messages[: quality.num_turns], start=1)
            ]
            body = table(("message", "text"), rows, numbers=False)
            blocks.append(
                rendered("folded.html", {"summary": f"{users.name} · {dialogue.name}", "body": body})
            )
    return Markup().join(blocks)


def _users_record(users: MeasuredUsers) -> dict[str, object]:
    curves: dict[str, object] = {}
    for number, measure in enumerate(MEASURES):
        means, halves = turn_means(users, number)
        curves[measure.key] = {"mean": means.tolist(), "half_interval": halves.tolist()}
    return {
        "name": users.name,
        "language": users.language,
        "dialogues": len(users.values),
        "messages": sum(len(rows) for rows in users.values),
        "left_out": users.source.num_left_out,
        "other_language": users.num_other_language,
        "by_message": curves,
    }


def _gap_record(gap: MeasureGap, is_comparable: bool) -> dict[str, object]:
    return {
        "human_mean": _bounds(gap.people),
        "simulated_mean": _bounds(gap.simulated),
        "distance": gap.distance,
        "yardstick": gap.yardstick,
        "ratio": gap.ratio.estimate,
        "ratio_range": [gap.ratio.low, gap.ratio.high],
        "human_ratio_range": [gap.people_ratio.low, gap.people_ratio.high],
        "differs": gap.differs if is_comparable and gap.num_drawn else None,
        "human_dialogues": gap.num_people,
        "simulated_dialogues": gap.num_simulated,
        "drawn": gap.num_drawn,
    }


def _bounds(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def _verdict(gap: MeasureGap, *, is_comparable: bool) -> str:
    if not is_comparable:
        return "other language"
    if not gap.num_drawn:
        return "too few"
    return "differs" if gap.differs else "like people"


def _interval(interval: Interval, decimals: int) -> str:
    if np.isnan(interval.estimate):
        return "–"
    return f"{interval.estimate:.{decimals}f} [{interval.low:.{decimals}f}, {interval.high:.{decimals}f}]"


def _number(value: float, decimals: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{decimals}f}"
