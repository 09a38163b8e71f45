"""`mica report RUN...`: one page that compares runs, and its charts as PNG files next to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.costs import COST_HEADS, COST_NOTE, cost_rows
from mica_ray.evaluation.tables import CONTAMINATED, MEASURES, UNITS, format_interval
from mica_ray.files import write_whole
from mica_ray.reporting.drawing.line_chart import drawn_chart, page_chart
from mica_ray.reporting.drawing.page import Section, page, rendered, table
from mica_ray.reporting.runs.charts import run_charts
from mica_ray.reporting.runs.tables import config_rows, environment_rows, failure_reasons, failure_rows
from mica_ray.runs.stored_run import RunFiles
from mica_ray.statistics import Interval
from mica_ray.training.audit.metrics import ALARM, PROBE_FAILURES


def write_run_report(
    runs: Sequence[RunFiles], path: Path, *, progress: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """Write the page, and every chart as `PAGE_CHART.png` into the same folder.

    Args:
        runs: at least one; their order determines the colours.
        path: file of the page; its folder is created when missing.
        progress: called with the name of each file after it is written.

    Returns:
        The files, the page last.

    Raises:
        OSError: the folder cannot be written.
    """
    paths: list[Path] = []

    def write(place: Path, content: str | bytes) -> None:
        write_whole(place, content)
        paths.append(place)
        if progress is not None:
            progress(place.name)

    for chart in run_charts(runs):
        write(path.with_name(f"{path.stem}_{chart.name}.png"), drawn_chart(chart).png())
    write(path, run_report(runs))
    return tuple(paths)


def run_report(runs: Sequence[RunFiles]) -> str:
    """Return the page as HTML."""
    names = [run.name for run in runs]
    title = f"Run {names[0]}" if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"
    sections = [Section("Overview", _overview(runs))]
    results = _results(runs)
    if results:
        sections.append(Section("Results", results))
    sections += [
        Section("Charts", Markup().join(page_chart(chart) for chart in run_charts(runs))),
        Section("Failures", _failures(runs)),
        Section("Costs", _costs(runs)),
        Section("Configuration", _configuration(runs)),
        Section("Environment", _environment(runs)),
    ]
    return page(title, sections, lead=_lead(runs))


def _lead(runs: Sequence[RunFiles]) -> str:
    """Return what readers must know first: which runs are unfinished, and which are contaminated."""
    parts = [
        f"{run.name} is unfinished: {run.num_steps} of {run.num_planned or 'unknown'} steps."
        for run in runs
        if run.summary is None
    ]
    parts += [f"{run.name} is {CONTAMINATED}." for run in runs if run.is_contaminated]
    parts += [warning for run in runs for warning in _audit_warnings(run)]
    return " ".join(parts)


def _audit_warnings(run: RunFiles) -> list[str]:
    """Return a sentence about the reward-hacking alarm, and one about credited probes, if there are any."""
    alarms = _steps_above_zero(run, ALARM)
    probes = _steps_above_zero(run, PROBE_FAILURES)
    found: list[str] = []
    if alarms:
        found.append(
            f"Reward-hacking alarm: from step {alarms[0]} on, {run.name}'s training judge and audit judge "
            f"drift apart ({len(alarms)} {'step' if len(alarms) == 1 else 'steps'} with an alarm)."
        )
    if probes:
        found.append(
            f"From step {probes[0]} on, {run.name}'s training judge credits probes that deserve nothing."
        )
    return found


def _steps_above_zero(run: RunFiles, metric: str) -> list[int]:
    """Return the numbers, from 1, of the steps at which a metric is above 0."""
    steps, values = run.series(metric)
    return [int(step) + 1 for step, value in zip(steps, values, strict=True) if value > 0]


def _overview(runs: Sequence[RunFiles]) -> Markup:
    rows = [
        [
            run.name,
            f"{'unfinished' if run.summary is None else 'finished'}"
            f"{', contaminated' if run.is_contaminated else ''}",
            f"{run.num_steps} of {run.num_planned or '?'}",
            f"{len(run.dialogues):,}",
            str(run.config.get("credit", {}).get("object", "?")).rpartition(":")[2],
            str(run.config.get("seed", "?")),
            str(run.config.get("policy", "?")),
            _seconds(run),
        ]
        for run in runs
    ]
    heads = ["run", "state", "steps", "dialogues", "credit", "seed", "policy", "training time"]
    return table(heads, rows, numbers=False)


def _seconds(run: RunFiles) -> str:
    seconds = (run.summary or {}).get("seconds", {}).get("train")
    return f"{seconds / 60:.1f} min" if isinstance(seconds, int | float) else "not finished"


def _results(runs: Sequence[RunFiles]) -> Markup:
    """Return before, after and difference of every finished run, by measure; empty without one."""
    rows = [
        [
            f"{label}: {run.name}",
            *(_interval(run.summary[part][field]) for part in ("before", "after", "difference")),
        ]
        for field, label in MEASURES.items()
        for run in runs
        if run.summary is not None
    ]
    if not rows:
        return Markup()
    note = f"Brackets: 95 % intervals over scenarios. {UNITS}."
    return table(["", "before", "after", "difference"], rows) + _note(note)


def _interval(value: Mapping[str, float | None]) -> str:
    numbers = [value.get(name) for name in ("estimate", "low", "high")]
    if any(number is None for number in numbers):
        return "not defined"
    return format_interval(Interval(*(float(number or 0.0) for number in numbers)))


def _failures(runs: Sequence[RunFiles]) -> Markup:
    rows = failure_rows(runs)
    nonzero = [row for row in rows if set(row[1:]) != {"0"}]
    parts = [table(["number in the whole run", *(run.name for run in runs)], nonzero)]
    if quiet := [row[0] for row in rows if row not in nonzero]:
        parts.append(_note(f"0 throughout: {'; '.join(quiet)}."))
    reasons = failure_reasons(runs)
    if reasons:
        parts.append(rendered("heading.html", {"text": "Why dialogues and judgements failed"}))
        parts.append(table(["reason", *(run.name for run in runs)], reasons))
    return Markup().join(parts)


def _costs(runs: Sequence[RunFiles]) -> Markup:
    """Return the total cost of each run, and the costs of its phases in collapsed parts."""
    parts: list[Markup] = []
    for run in runs:
        if run.costs:
            parts.append(rendered("heading.html", {"text": run.name}))
            parts.append(table(COST_HEADS, cost_rows(run.total_costs)))
        for phase, tallies in run.costs.items():
            values = {"summary": phase.replace("_", " "), "body": table(COST_HEADS, cost_rows(tallies))}
            parts.append(rendered("folded.html", values))
    free = [run.name for run in runs if not run.costs]
    if parts:
        parts.append(_note(COST_NOTE))
    if free:
        parts.append(_note(f"No calls of role models are recorded for {', '.join(free)}."))
    prices = [
        f"{run.name}: {price:,.2f} USD per point of EPM-Q gained."
        for run in runs
        if isinstance(price := (run.summary or {}).get("usd_per_epm_q_point"), int | float)
    ]
    return Markup().join([*parts, *([_note(" ".join(prices))] if prices else [])])


def _configuration(runs: Sequence[RunFiles]) -> Markup:
    """Return the keys in which the runs differ, or in which a single run differs from the default."""
    if len(runs) == 1:
        default = RunConfig().model_dump(mode="json")
        rows = config_rows([runs[0].config, default])
        heads = ["key", runs[0].name, "default"]
        nothing = "The run has the default configuration."
    else:
        rows = config_rows([run.config for run in runs])
        heads = ["key", *(run.name for run in runs)]
        nothing = "The runs have the same configuration."
    return table(heads, rows, numbers=False) if rows else _note(nothing)


def _environment(runs: Sequence[RunFiles]) -> Markup:
    columns = [(run, start) for run in runs for start in run.environment]
    if not columns:
        return _note("The runs recorded no environment.")
    heads = ["", *(f"{run.name}, from step {start.get('step', '?')}" for run, start in columns)]
    missing = [run.name for run in runs if not run.environment]
    note = _note(f"Not recorded by {', '.join(missing)}.") if missing else Markup()
    return table(heads, environment_rows([start for _, start in columns]), numbers=False) + note


def _note(text: str) -> Markup:
    return rendered("note.html", {"text": text})
