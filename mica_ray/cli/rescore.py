"""`mica evaluate rescore`: scores of dialogues that were recorded, without playing any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mica_ray.config.references import ConfigError
from mica_ray.evaluation.evaluate import EvaluationConfig
from mica_ray.evaluation.rescore_report import rescore_record, rescore_tables
from mica_ray.evaluation.rescored_files import Rescored, rescore
from mica_ray.files import write_json
from mica_ray.recordings.recorded_dialogue import RecordingError

MOST_NOTES = 20
"""Of one model on the terminal."""


def run_rescore(files: Sequence[Path], *, check_endings: bool, json_file: Path | None) -> None:
    """Score the files, print the tables and what was odd in the records.

    Raises:
        ConfigError: one line for a file that cannot be scored; nothing was written.
    """
    console = Console()
    try:
        results = rescore(files, seed=EvaluationConfig().seed, check=check_endings)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    print_scores(results, console)
    if json_file is not None:
        write_json(json_file, rescore_record(results))


def print_scores(results: Sequence[Rescored], console: Console) -> None:
    """Print the tables, and under them what was odd in the records."""
    for table in rescore_tables(results):
        console.print(table)
    for item in results:
        notes = item.score.notes
        for note in notes[:MOST_NOTES]:
            console.print(f"{item.model}: {note}", highlight=False, markup=False, soft_wrap=True)
        if len(notes) > MOST_NOTES:
            console.print(f"{item.model}: {len(notes) - MOST_NOTES} more notes; --json FILE holds them all")
