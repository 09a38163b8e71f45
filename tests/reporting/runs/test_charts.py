"""The numbers of the charts, computed by hand; both drawings of a chart show the same numbers."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mica_ray.files import JsonLine
from mica_ray.recordings.own_format import read_own_dialogue
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.reporting.drawing.line_chart import Curve, LineChart, Panel, drawn_chart, page_chart
from mica_ray.reporting.runs.charts import first_and_last_steps, run_charts, survivors
from mica_ray.runs.stored_run import read_runs
from tests.runs.written_run import of_rewards, write_run


def logged(step: int, num_turns: int, stop: str = "limit") -> RecordedDialogue:
    fields = of_rewards(step, 0, 0, [0.0] * num_turns) | {"stop": stop}
    return read_own_dialogue(JsonLine(Path("dialogues.jsonl"), 1, fields), model="run")


def test_survivors_are_the_share_that_reaches_each_turn() -> None:
    # Of lengths 1, 2, 2, 4: all reach turn 1, three turn 2, one turns 3 and 4. Failed ones do not count.
    dialogues = [logged(0, length) for length in (1, 2, 2, 4)] + [logged(0, 9, stop="failed")]
    np.testing.assert_allclose(survivors(dialogues), [1, 0.75, 0.25, 0.25])
    assert survivors([]).tolist() == []


def test_first_and_last_steps_are_quarters_of_those_played() -> None:
    first, last = first_and_last_steps([logged(step, 1) for step in range(8)])
    assert (first, last) == ({0, 1}, {6, 7})
    assert first_and_last_steps([logged(3, 1)]) == ({3}, {3})


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LineChart]:
    folder = tmp_path_factory.mktemp("runs")
    runs = read_runs([write_run(folder / "one"), write_run(folder / "two", dialogues=())])
    return {chart.name: chart for chart in run_charts(runs)}


def test_rewards_by_turn_are_means_of_the_first_and_the_last_steps(charts: dict[str, LineChart]) -> None:
    reward = charts["rewards_by_turn"].panels[0]
    curves = {curve.name: curve for curve in reward.curves}
    # Step 0: turn 1 of -1 and 0, turn 2 of 3 and 0. Step 1: 0 and 0; 1 alone, the other has no judgement.
    assert curves["one, first steps"].y == [-0.5, 1.5]
    assert curves["one"].y == [0.0]
    assert "two" not in curves  # It has no dialogues.


def test_metric_that_is_nowhere_leaves_its_panel_empty(charts: dict[str, LineChart]) -> None:
    panels = {panel.title: panel for panel in charts["learning"].panels}
    assert [curve.name for curve in panels["EPM-Q in evaluations"].curves] == ["one", "two"]
    assert panels["training dialogues that succeed"].curves == ()


@pytest.mark.parametrize("name", ["learning", "updates", "rewards_by_turn", "survivors_by_turn"])
def test_picture_and_page_show_the_same_lines_in_the_same_colours(
    charts: dict[str, LineChart], name: str
) -> None:
    chart = charts[name]
    axes = drawn_chart(chart).figure.axes
    areas = re.findall(r'<script type="application/json">(.*?)</script>', page_chart(chart), re.DOTALL)
    assert len(areas) == len(chart.panels)
    for panel, axis, area in zip(chart.panels, axes, areas, strict=False):
        traces = [trace for trace in json.loads(unescape(area))["data"] if trace.get("name")]
        pictured = [line for line in axis.get_lines() if not str(line.get_label()).startswith("_")]
        assert [trace["name"] for trace in traces] == [line.get_label() for line in pictured]
        assert axis.get_title() == panel.title
        for trace, line in zip(traces, pictured, strict=True):
            y = [np.nan if value is None else value for value in trace["y"]]
            np.testing.assert_allclose(np.column_stack([trace["x"], y]), np.asarray(line.get_xydata()))
            assert trace["line"]["color"] == to_hex(line.get_color()).upper()


def test_run_keeps_its_colour_in_every_chart(charts: dict[str, LineChart]) -> None:
    seen = {curve.name: curve.colour for chart in charts.values() for curve in chart.names.values()}
    assert seen["one"] == seen["one, first steps"] != seen["two"]


def test_colour_and_marker_together_repeat_only_after_36_runs() -> None:
    looks = [(curve.colour, curve.marker) for curve in (Curve("a", number, [], []) for number in range(36))]
    assert len(set(looks)) == 36


def test_band_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="x, y and band of a must have equal lengths, got"):
        Curve("a", 0, [1.0], [1.0], band=[1.0, 2.0])


def test_name_with_tags_is_text_in_both_drawings(tmp_path: Path) -> None:
    panel = Panel("p", "x", "y", (Curve("<b>$x_1$</b>", 0, [0.0, 1.0], [1.0, 2.0]),))
    chart = LineChart("c", "t", "", (panel,))
    assert drawn_chart(chart).png(dpi=20).startswith(b"\x89PNG")
    assert "&lt;b&gt;$x_1$&lt;/b&gt;</li>" in page_chart(chart)
