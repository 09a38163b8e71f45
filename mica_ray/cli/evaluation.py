"""`mica evaluate`: one policy on the test scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mica_ray.chat.ledger import Ledger
from mica_ray.cli.progress import StageBars
from mica_ray.cli.recipes import read_model
from mica_ray.evaluation.costs import cost_table
from mica_ray.evaluation.report import evaluation_record, evaluations_table
from mica_ray.files import write_json
from mica_ray.launch import run


def run_evaluation(model: str, *, assignments: Sequence[str], inline: bool, json_file: Path | None) -> None:
    """Evaluate and print the table.

    Raises:
        ConfigError: one line for what cannot be done.
    """
    console = Console()
    config = read_model(model, assignments)
    checked, ledger = run.check(config, inline=inline), Ledger()
    with StageBars(config, console, num_evaluated=checked.num_evaluated) as bars:
        evaluation = run.evaluate_policy(checked, progress=bars, ledger=ledger)
    console.print(
        evaluations_table(
            f"{config.evaluation.split} scenarios of {config.domain}",
            {model: evaluation},
            contaminated=config.contaminated,
        )
    )
    console.print(cost_table("what the roles took", ledger.totals()))
    if json_file is not None:
        costs = {role: asdict(tally) for role, tally in ledger.totals().items()}
        record = evaluation_record(evaluation, contaminated=config.contaminated)
        write_json(json_file, {"model": model, **record, "costs": costs})
