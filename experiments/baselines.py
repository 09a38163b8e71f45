"""Which credit teaches most under one budget: MICA, its two halves alone, GRPO or REINFORCE++?

Command:   python experiments/baselines.py --out runs/baselines            (all arms, seeds 0 1 2; resumable)
           python experiments/baselines.py --arms mica grpo --seeds 0 --set loop.num_steps=10
Time:      arms x seeds x the training time of the embedded run
Expected:  the measured table is in README.md
Paper:     Qwen3-8B, EMPA score: MICA 41.5, group-only 38.5, turn-only 36.1, GRPO 33.0 (2603.06194)

All arms share policy, scenarios, seeds and budget; only the estimator differs. An arm that has its
summary.json is read and not run again; one that was killed is continued.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray import run
from mica_ray.cli.stages import StageBars
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.run_folder import RunFolder
from mica_ray.config.world import num_evaluated
from mica_ray.credit import CreditEstimator, Grpo, Mica, ReinforcePlusPlus
from mica_ray.evaluation.report import MEASURES, UNITS, show_interval, write_json
from mica_ray.evaluation.statistics import Interval

ARMS: Mapping[str, CreditEstimator] = {
    "mica": Mica(alpha=0.5),
    "turn_only": Mica(alpha=1.0),
    "group_only": Mica(alpha=0.0),
    "grpo": Grpo(),
    "reinforce_pp": ReinforcePlusPlus(),
    "reinforce_pp_batch_idr": ReinforcePlusPlus(kind="batch_idr"),
}


def main() -> None:
    """Run the arms that are missing, then write one table."""
    options = _options()
    console = Console()
    records: dict[str, dict[str, object]] = {}
    for seed in options.seeds:
        for arm in options.arms:
            name = f"{arm}-seed{seed}"
            records[name] = _run_arm(arm, seed, options, console)
    for field in MEASURES:
        console.print(_table(records, field))
    write_json(options.out / "baselines.json", records)
    console.print(f"written to {options.out / 'baselines.json'}", highlight=False, soft_wrap=True)


def _run_arm(arm: str, seed: int, options: argparse.Namespace, console: Console) -> dict[str, object]:
    """Give the summary of one arm, running or continuing it where needed."""
    folder = RunFolder((options.out / f"{arm}-seed{seed}").absolute())
    if folder.summary.is_file():
        return json.loads(folder.summary.read_text())
    base = RunConfig(name="baselines", credit=ARMS[arm], seed=seed, out=folder.path)
    config = override(base, options.set)
    resume = folder.path if folder.config_file.is_file() else None
    console.rule(f"{arm}, seed {seed}")
    with StageBars(config, console, num_evaluated=num_evaluated(config)) as bars:
        return run.train(config, inline=options.inline, resume=resume, progress=bars).record()


def _table(records: Mapping[str, Mapping[str, object]], field: str) -> Table:
    table = Table(title=f"{MEASURES[field]}, 95 % intervals over scenarios", caption=UNITS, box=SIMPLE_HEAD)
    table.add_column("arm", overflow="fold")
    for when in ("before", "after", "difference"):
        table.add_column(when, justify="right", no_wrap=True)
    for name, record in records.items():
        table.add_row(name, *(_show(record[when], field) for when in ("before", "after", "difference")))
    return table


def _show(evaluation: object, field: str) -> str:
    assert isinstance(evaluation, Mapping)
    interval = evaluation[field]
    return show_interval(
        Interval(*(math.nan if value is None else float(value) for value in interval.values()))
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare credit estimators under one budget.")
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--inline", action="store_true", help="in this process, without Ray")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="for every arm")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        print(f"baselines: {error}", file=sys.stderr)
        sys.exit(2)
