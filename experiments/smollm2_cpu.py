"""Does a real instruct model of 135 M parameters learn to support people in the embedded world, on two cores?

Command:   python experiments/smollm2_cpu.py --out runs/smollm2        (--set policy=PATH for a local folder)
           `mica train experiments/smollm2_cpu.py` trains the same run without the side-by-side replies
Time:      at most 45 minutes on two cores
Expected:  see experiments/README.md
Paper:     does not have this world. User, director and judge are scripted, so no claim about people follows.

Writes smollm2.json: EPM-Q and mean IDR before and after with intervals, ten replies side by side, seconds per
stage, peak memory. Read the replies: a score that rises while they get worse means that the judge is fooled.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mica_ray.cli.progress import StageBars
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.evaluation.evaluate import EvaluationConfig
from mica_ray.evaluation.tables import comparison_table
from mica_ray.files import write_json
from mica_ray.launch import run
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.tracker import ConsoleTracker
from mica_ray.training.loop import LoopConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Sampling

NUM_REPLIES = 10
_KIB_PER_GIB = 2**20
_SAMPLE_SECONDS = 2.0

CONFIG = RunConfig(
    name="smollm2",
    policy="HuggingFaceTB/SmolLM2-135M-Instruct",
    retellings=0,  # Retellings put topics into a template, which reads oddly to a model that knows English.
    # At temperature 1 a model of this size loses the thread within a sentence.
    rollout=RolloutConfig(
        group_size=4, sampling=Sampling(temperature=0.7, max_tokens=48), context_length=1536
    ),
    engine=EngineConfig(dtype="bfloat16", max_model_len=1536, max_num_seqs=64),
    learner=LearnerConfig(
        learning_rate=5e-5,
        weight_decay=0.0,
        micro_batch_tokens=2048,
        dtype="bfloat16",
    ),
    loop=LoopConfig(
        num_steps=12, scenarios_per_step=4, checkpoint_every=4, keep_checkpoints=1, track_policy=False
    ),
    evaluation=EvaluationConfig(max_scenarios=24),
)


def main() -> None:
    """Train, then print and write the outcome."""
    parser = argparse.ArgumentParser(description="Train SmolLM2-135M-Instruct in the embedded world.")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--inline", action="store_true", help="in this process, without Ray")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    options = parser.parse_args()
    console = Console()
    config = override(CONFIG.model_copy(update={"out": options.out}), options.set)
    # Continue a run that was interrupted.
    resume = options.out if RunFolder.holds_run(options.out) else None
    checked = run.check(config, inline=options.inline)
    with PeakMemory() as memory, StageBars(config, console, num_evaluated=checked.num_evaluated) as bars:
        summary = run.run_training(
            checked,
            resume=resume,
            progress=bars,
            tracker=ConsoleTracker(console, num_steps=config.loop.num_steps),
        )
    replies = replies_side_by_side(summary.folder)
    console.print(
        comparison_table("SmolLM2-135M-Instruct", summary.before, summary.after, summary.comparison)
    )
    console.print(_replies_table(replies))
    write_json(options.out / "smollm2.json", _record(summary, replies, memory.peak_gib))
    console.print(f"written to {options.out / 'smollm2.json'}", highlight=False, soft_wrap=True)


def replies_side_by_side(folder: RunFolder) -> list[dict[str, str]]:
    """Return the first replies of ten evaluation dialogues, before and after, to the same message."""
    before, after = (
        {
            row["scenario"]: row
            for row in map(json.loads, folder.evaluation_dialogues(when).read_text().splitlines())
        }
        for when in ("before", "after")
    )
    shared = [name for name in before if name in after and before[name]["turns"] and after[name]["turns"]]
    return [
        {
            "scenario": name,
            "user": before[name]["turns"][0]["user"],
            "before": before[name]["turns"][0]["reply"],
            "after": after[name]["turns"][0]["reply"],
        }
        for name in shared[:NUM_REPLIES]
    ]


def _replies_table(replies: list[dict[str, str]]) -> Table:
    table = Table(title="first replies", show_lines=True)
    for column in ("user", "before", "after"):
        table.add_column(column, ratio=1)
    for row in replies:
        table.add_row(*(row[column] for column in ("user", "before", "after")))
    return table


def _record(summary: RunSummary, replies: list[dict[str, str]], peak_gib: float) -> Mapping[str, object]:
    return {**summary.to_json(), "replies": replies, "peak_memory_gib": peak_gib}


class PeakMemory:
    """Samples the memory of this process and its children inside the context; shared pages count once.

    Attributes:
        peak_gib: the largest sum so far, GiB.
    """

    def __init__(self) -> None:
        self.peak_gib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            kib = sum(_proportional_kib(process) for process in _descendants(os.getpid()))
            self.peak_gib = max(self.peak_gib, kib / _KIB_PER_GIB)


def _descendants(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # It has ended.
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def _proportional_kib(process: int) -> int:
    """Return a process's memory with shared pages divided among its users; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        print(f"smollm2_cpu: {error}", file=sys.stderr)
        sys.exit(2)
