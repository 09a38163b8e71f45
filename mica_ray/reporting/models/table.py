"""The paper's Table 1 for any set of models: scores, differences to a base, and what they are based on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mica_ray.reporting.drawing.text_table import TextTable
from mica_ray.reporting.models.columns import COLUMNS, Cell, Column, cell, difference
from mica_ray.reporting.models.comparability import OWN_METHODS
from mica_ray.reporting.models.results import EMPA, TITLES, BenchmarkResult, ModelResults
from mica_ray.statistics import Interval

ABSENT = "-"
"""A cell without a result, which is not a score of 0."""
UNITS = (
    "EMPA score: EPM-Q; EmoBench: percent right; EQ-Bench v2: 0 for random answers, 100 for perfect ones; "
    "EQ-Bench 3: rubric score, 0 to 100"
)
INTERVALS = (
    "Brackets: 95 % intervals over items, of passed over dialogues. Samples and runs of a model are averaged "
    "by item first, so that intervals leave out how training runs differ; `mica compare` includes that"
)
PAIRED = "Differences: over the items that both models have; intervals resample their pairs"


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The table in all its parts."""

    models: tuple[ModelResults, ...]
    base: ModelResults | None
    """The model that the others are compared with; one of `models`."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of benchmarks on which any model has a result; at least those of EMPA."""
        found = {result.benchmark for model in self.models for result in model.results} or {EMPA}
        return tuple(column for column in COLUMNS if column.benchmark in found)

    def text_tables(self) -> tuple[TextTable, ...]:
        """Return scores, differences if there is a base, and what the scores are based on, with its notes."""
        tables = [self._scores()]
        if self.base is not None:
            tables.append(self._differences(self.base))
        return (*tables, self._results())

    def notes(self) -> tuple[str, ...]:
        """Return units, intervals, and which scores are not comparable with published ones."""
        paired = () if self.base is None else (PAIRED,)
        return (UNITS, INTERVALS, *paired, *self._not_comparable())

    def record(self) -> dict[str, object]:
        """Return everything as plain JSON values; a cell without a result is null."""
        return {
            "base": self.base and self.base.name,
            "rows": [self._row_record(model) for model in self.models],
            "notes": list(self.notes()),
        }

    def _scores(self) -> TextTable:
        rows = [
            (model.name, *(_score_text(column, cell(model, column)) for column in self.columns))
            for model in self.models
        ]
        header = ("model", *(column.title for column in self.columns))
        return TextTable("Scores of models", header, tuple(rows))

    def _differences(self, base: ModelResults) -> TextTable:
        rows = [
            (model.name, *(_gap_text(difference(model, base, column)) for column in self.columns))
            for model in self.models
            if model is not base
        ]
        header = ("model", *(column.title for column in self.columns))
        return TextTable(f"Difference to {base.name}", header, tuple(rows))

    def _results(self) -> TextTable:
        rows = [
            (
                model.name,
                title,
                str(len(found)),
                str(len(frozenset[str]().union(*(result.items for result in found)))),
                *(
                    str(sum(getattr(result, count) for result in found))
                    for count in ("num_answers", "num_unreadable", "num_failed")
                ),
            )
            for model in self.models
            for benchmark, title in TITLES.items()
            if (found := model.of(benchmark))
        ]
        return TextTable(
            "What the scores are based on",
            ("model", "benchmark", "runs", "items", "answers", "unreadable", "failed"),
            tuple(rows),
            self.notes(),
        )

    def _not_comparable(self) -> list[str]:
        """Return one sentence per benchmark and per result that is not what papers publish."""
        shown = {result.benchmark for model in self.models for result in model.results}
        sentences = [text for benchmark, text in OWN_METHODS.items() if benchmark in shown]
        for model in self.models:
            for result in model.results:
                sentences += [f"{model.name}: {reason}" for reason in result.reasons]
        return [f"Not comparable with published scores: {text}" for text in dict.fromkeys(sentences)]

    def _row_record(self, model: ModelResults) -> dict[str, object]:
        gaps = {
            column.key: _cell_record(difference(model, self.base, column))
            for column in self.columns
            if self.base is not None and model is not self.base
        }
        return {
            "model": model.name,
            "scores": {column.key: _cell_record(cell(model, column)) for column in self.columns},
            "differences": gaps,
            "results": [_result_record(result) for result in model.results],
        }


def _score_text(column: Column, found: Cell | None) -> str:
    if found is None:
        return ABSENT
    if not column.is_count:
        return _interval_text(found.value)
    count, low, high = found.value.estimate, found.value.low, found.value.high
    passed = f"{count:.0f}" if abs(count - round(count)) < 0.05 else f"{count:.1f}"
    return f"{passed} of {found.num_items} [{low:.1f}, {high:.1f}]"


def _gap_text(found: Cell | None) -> str:
    return ABSENT if found is None else _interval_text(found.value, sign="+")


def _interval_text(value: Interval, *, sign: str = "") -> str:
    return f"{value.estimate:{sign}.1f} [{value.low:.1f}, {value.high:.1f}]"


def _cell_record(found: Cell | None) -> dict[str, object] | None:
    return None if found is None else {**asdict(found.value), "items": found.num_items}


def _result_record(result: BenchmarkResult) -> dict[str, object]:
    return {
        "benchmark": result.benchmark,
        "source": str(result.source),
        "items": len(result.items),
        "answers": result.num_answers,
        "unreadable": result.num_unreadable,
        "failed": result.num_failed,
        "reasons_not_comparable": list(result.reasons),
    }
