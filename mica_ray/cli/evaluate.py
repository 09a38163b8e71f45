"""`mica evaluate`: a policy on the test scenarios, or the scores of recorded dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mica_ray.cli.empa import empa_command
from mica_ray.cli.eqbench3.commands import eqbench3_app
from mica_ray.cli.options import (
    InlineOption,
    JsonFileOption,
    ModelArgument,
    SetOption,
    TrustOption,
    examples,
    group_with_default,
    new_console,
    save_json,
)
from mica_ray.cli.questions import emobench_command, eqbench2_command
from mica_ray.cli.results.model_table import table_command

if TYPE_CHECKING:
    from mica_ray.evaluation.rescored_files import Rescored

_MAX_NOTES = 20
"""Notes printed for each model; the JSON file holds all."""

DEFAULT = "model"
"""The command behind `mica evaluate MODEL`."""

evaluate_app = typer.Typer(
    cls=group_with_default(DEFAULT),
    name="evaluate",
    help="Evaluate a policy on the test scenarios, on EMPA, or from recorded dialogues.\n\n"
    "`mica evaluate MODEL` plays the test scenarios; `mica evaluate MODEL --help` lists its options.",
    epilog=examples(
        "mica evaluate runs/embedded-TIME --json table.json",
        "mica evaluate rescore runs/embedded-TIME/evaluation_after.jsonl",
    ),
)


@evaluate_app.command(DEFAULT, hidden=True)
def evaluate_command(
    model: ModelArgument,
    sets: SetOption = None,
    inline: InlineOption = False,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Evaluate a policy on the test scenarios of its domain."""
    from mica_ray.chat.ledger import Ledger
    from mica_ray.cli.progress import StageBars
    from mica_ray.cli.recipes import read_model
    from mica_ray.evaluation.comparable import reasons_of
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.evaluation.tables import evaluation_record, evaluations_table
    from mica_ray.launch import run

    console = new_console()
    config = read_model(model, sets or ())
    checked, ledger = run.check(config, inline=inline, learns=False), Ledger()
    with StageBars(config, console, num_evaluated=checked.num_evaluated) as bars:
        evaluation = run.evaluate_policy(checked, progress=bars, ledger=ledger)
    title = f"{config.evaluation.split} scenarios of {config.domain}"
    console.print(evaluations_table(title, {model: evaluation}, contaminated=config.contaminated))
    reasons = reasons_of(config.model_dump(mode="json"), evaluation, domain=checked.domain)
    print_reasons(console, reasons)
    console.print(cost_table("Calls and costs of the roles", ledger.totals()))
    record = evaluation_record(evaluation, contaminated=config.contaminated)
    costs = {role: asdict(tally) for role, tally in ledger.totals().items()}
    record |= {"reasons_not_comparable": list(reasons), "costs": costs}
    save_json(json_file, {"model": model, **record})


@evaluate_app.command("rescore", epilog=examples("mica evaluate rescore FILE... --json scores.json"))
def rescore_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Published EMPA runs, our own dialogues.jsonl or evaluation files, or SAGE dialogues. "
            "The format is recognized from the content.",
        ),
    ],
    check_endings: Annotated[
        bool,
        typer.Option(
            "--check-endings",
            help="Also replay the recorded levels by our ending rules and list the differences.",
        ),
    ] = False,
    json_file: JsonFileOption = None,
) -> None:
    """Score recorded dialogues without playing any: EPM-Q and its indices, or SAGE's emotion score."""
    from mica_ray.config.references import ConfigError
    from mica_ray.evaluation.evaluate import EvaluationConfig
    from mica_ray.evaluation.rescore_tables import rescore_record
    from mica_ray.evaluation.rescored_files import rescore
    from mica_ray.recordings.recorded_dialogue import RecordingError

    try:
        scores = rescore(files, seed=EvaluationConfig().seed, check=check_endings)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    print_scores(scores, new_console())
    save_json(json_file, rescore_record(scores))


evaluate_app.command(
    "empa",
    epilog=examples(
        "mica evaluate empa --policy runs/a --judge vllm:Qwen/Qwen3-32B --cards CARDS",
        'mica evaluate empa --policy \'{"model": "m", "base_url": "https://host/v1"}\' --judge vllm:M '
        "--cards CARDS --cases 3",
    ),
)(empa_command)
evaluate_app.command(
    "emobench",
    epilog=examples(
        "mica evaluate emobench --policy runs/a --data emobench",
        "mica evaluate emobench --policy Qwen/Qwen2.5-7B-Instruct --data emobench --samples 5",
    ),
)(emobench_command)
evaluate_app.command(
    "eqbench2", epilog=examples("mica evaluate eqbench2 --policy runs/a --data eqbench2 --limit 20")
)(eqbench2_command)
evaluate_app.add_typer(eqbench3_app)
evaluate_app.command(
    "table",
    epilog=examples(
        "mica evaluate table runs/a runs/emobench-a runs/b --base runs/b --out table",
        "mica evaluate table mixed=runs/a mixed=runs/b group=runs/c gpt-4o.jsonl",
    ),
)(table_command)


def print_reasons(console: Console, reasons: Sequence[str], *, name: str = "") -> None:
    """Print why a score cannot be compared with published ones; nothing if it can.

    Args:
        console: receives one line.
        reasons: from evaluation/comparable.py.
        name: of the policy, where several are shown.
    """
    if reasons:
        line = f"{name and name + ': '}Not comparable with published EMPA scores: {'; '.join(reasons)}."
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_scores(scores: Sequence[Rescored], console: Console) -> None:
    """Print the score tables, and below them what was unusual in the recorded dialogues."""
    from mica_ray.evaluation.rescore_tables import rescore_tables

    for table in rescore_tables(scores):
        console.print(table)
    for item in scores:
        print_reasons(console, item.reasons, name=item.model)
        notes = item.score.notes
        for note in notes[:_MAX_NOTES]:
            console.print(f"{item.model}: {note}", highlight=False, markup=False, soft_wrap=True)
        if len(notes) > _MAX_NOTES:
            console.print(f"{item.model}: {len(notes) - _MAX_NOTES} more notes; --json FILE holds them all.")
