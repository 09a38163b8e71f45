"""Does an adapter of rank 16 learn as much as training every weight, with the same budget?

Command:   python experiments/lora_smollm2.py --policy FOLDER [--seeds 3] [--out DIR] [--set KEY=VALUE]
           (FOLDER: SmolLM2-135M-Instruct, or a hub id; a rerun continues every run where it stopped)
Time:      20 to 45 minutes a run on two cores, two arms x three seeds
Expected:  one push of the adapter at most 1/50 of the bytes; the scores are the question
Paper:     trains every weight. User, director and judge are scripted, so no claim about people follows.

Both arms are the run of smollm2_cpu.py. Arm "lora" adapts the attention, whose push is 1/73 of the model's;
with the MLP too it would be 1/27.5. Its learning rate is ten times that of arm "full", as is usual for
adapters. Writes lora_smollm2.json and a table: EPM-Q with intervals, bytes per push, time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mica_ray.config import RunConfig
from mica_ray.config.references import load_module_file
from mica_ray.files import write_json
from mica_ray.lora.config import LoraConfig
from mica_ray.reporting.runs.comparison import RunRow, run_rows, run_text_table
from mica_ray.runs.arms import RunArm, read_arms
from mica_ray.runs.folder import RunFolder

CONFIG: RunConfig = load_module_file(Path(__file__).with_name("smollm2_cpu.py")).CONFIG

LEARNING_RATE_FACTOR = 10.0
"""Of the adapter, against that of the whole model."""

full = CONFIG.model_copy(update={"name": "full"})
lora = CONFIG.model_copy(
    update={
        "name": "lora",
        "learner": replace(
            CONFIG.learner,
            learning_rate=CONFIG.learner.learning_rate * LEARNING_RATE_FACTOR,
            lora=LoraConfig(rank=16, alpha=32.0, targets=("q_proj", "k_proj", "v_proj", "o_proj")),
        ),
    }
)
ARMS: Mapping[str, RunConfig] = {"full": full, "lora": lora}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one arm costs beside its scores."""

    push_bytes: int
    """Bytes of the tensors that go to the engines after a step."""
    train_seconds: float
    """Mean duration of the training loop of a run."""


def missing_runs(policy: str, out: Path, seeds: Sequence[int], settings: Sequence[str]) -> list[list[str]]:
    """Return the command of each run that has not finished, seed by seed, so that early results compare."""
    found: list[list[str]] = []
    for seed in seeds:
        for arm in ARMS:
            folder = out / f"{arm}-seed{seed}"
            if (folder / "summary.json").is_file():
                continue
            chosen = [f"policy={policy}", f"seed={seed}", f"out={folder}", *settings]
            start = [f"{Path(__file__)}:{arm}", *(part for each in chosen for part in ("--set", each))]
            found.append(["train", *(["--resume", str(folder)] if RunFolder.holds_run(folder) else start)])
    return found


def push_bytes(policy: Path) -> int:
    """Return the bytes of the tensors of a saved policy: of the adapter, or of the whole model."""
    from safetensors import safe_open

    (path,) = policy.glob("*.safetensors")
    with safe_open(path, "pt") as tensors:
        return sum(tensors.get_tensor(name).nbytes for name in tensors.keys())  # noqa: SIM118 -- no mapping


def cost_of(arm: RunArm) -> Cost:
    """Read the cost of an arm from its finished runs."""
    summaries = [RunFolder.open(folder).read_summary() for folder in sorted(arm.folders)]
    done = [summary for summary in summaries if summary is not None]
    return Cost(
        push_bytes=push_bytes(Path(done[0]["policy"])),
        train_seconds=sum(summary["seconds"]["train"] for summary in done) / len(done),
    )


def record_of(rows: Sequence[RunRow], costs: Sequence[Cost]) -> dict[str, object]:
    """Return the outcome as JSON values; the first arm is `full`."""
    return {
        "arms": {row.name: {**asdict(row), **asdict(cost)} for row, cost in zip(rows, costs, strict=True)},
        "push_ratio": costs[1].push_bytes / costs[0].push_bytes,
        "time_ratio": costs[1].train_seconds / costs[0].train_seconds,
    }


def main() -> None:
    """Play the runs that are missing, then print and write the comparison."""
    parser = argparse.ArgumentParser(description="Compare an adapter with training every weight.")
    parser.add_argument("--policy", default=CONFIG.policy, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("runs/lora_smollm2"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    parser.add_argument("--inline", action="store_true", help="every run in one process, without Ray")
    options = parser.parse_args()
    for arguments in missing_runs(options.policy, options.out, range(options.seeds), options.set):
        line = [*arguments, *(["--inline"] if options.inline else [])]
        subprocess.run([sys.executable, "-c", "from mica_ray.cli import main; main()", *line], check=True)
    folders = [options.out / f"{arm}-seed{seed}" for arm in ARMS for seed in range(options.seeds)]
    arms = read_arms(folders)
    rows, costs = run_rows(arms, arms[0]), [cost_of(arm) for arm in arms]
    outcome = record_of(rows, costs)
    write_json(options.out / "lora_smollm2.json", outcome)
    console = Console()
    run_text_table(rows, base=rows[0].name).show()
    table = Table("arm", "MB per push", "seconds of training")
    for row, cost in zip(rows, costs, strict=True):
        table.add_row(row.name, f"{cost.push_bytes / 1e6:.2f}", f"{cost.train_seconds:.0f}")
    console.print(table)
    console.print(f"push {outcome['push_ratio']:.4f}, time {outcome['time_ratio']:.2f} of arm full")


if __name__ == "__main__":
    main()
