"""What a report shows of the audit by a second judge."""

from __future__ import annotations

from pathlib import Path

from mica_ray.reporting.runs.charts import run_charts
from mica_ray.reporting.runs.page import run_report
from mica_ray.runs.stored_run import read_runs
from tests.runs.written_run import write_run


def test_audit_is_drawn_only_for_runs_that_have_one(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "plain"), write_run(tmp_path / "watched", is_audited=True)])
    assert "audit" not in {chart.name for chart in run_charts(runs[:1])}
    (audit,) = [chart for chart in run_charts(runs) if chart.name == "audit"]
    rewards, gap, sums, probes = audit.panels
    assert [(curve.name, curve.y, curve.is_dashed) for curve in rewards.curves] == [
        ("watched", [1.0, 2.0, 2.0], False),
        ("watched, audit judge", [0.9, 0.5, 0.4], True),
    ]
    assert [curve.y for curve in gap.curves] == [[0.1, 1.5, 1.6]]
    assert [(curve.x, curve.y) for curve in sums.curves] == [
        ([3, 4], [9.5, 20.0]),
        ([2, 3, 4], [9.0, 9.0, 9.0]),
    ]
    assert [(curve.x, curve.y) for curve in probes.curves] == [([2, 4], [0.0, 2.0])]


def test_page_begins_with_the_alarm_and_the_credited_probes(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "plain"), write_run(tmp_path / "wat<b>ched", is_audited=True)])
    # Metrics count steps from 0, people from 1: the alarm begins in step 3 of the file.
    page = run_report(runs)
    assert (
        "Reward-hacking alarm: from step 4 on, wat&lt;b&gt;ched&#39;s training judge and audit judge" in page
    )
    assert "(2 steps with an alarm)" in page
    assert "From step 5 on, wat&lt;b&gt;ched&#39;s training judge credits probes" in page
    assert "alarm" not in run_report(runs[:1])
