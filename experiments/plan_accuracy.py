"""How near is the memory that `mica train --dry-run` predicts to what the processes of the run use?

Command:   python experiments/plan_accuracy.py --json FILE [--policy FOLDER ...] [--set KEY.PATH=VALUE ...]
           (without --policy: the embedded policy)
Time:      3 to 10 minutes per policy on two cores
Expected:  measured over planned memory of the learner between 0.85 and 1.15

Trains one step of four short dialogues with each policy on Ray, and reads the memory of every process twice a
second: the proportional set size without shared memory, which is counted as the object store. The plan is an
upper limit: rows are seldom as long as the context.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mica_ray.files import write_json

SHORT = (
    "loop.num_steps=1", "loop.scenarios_per_step=2", "rollout.group_size=2", "learner.mini_batches=1",
    "evaluation.max_scenarios=1", "evaluation.samples=1",
)  # fmt: skip
EMBEDDED = ("rollout.context_length=512",)
"""Dialogues of the embedded policy are shorter than its context; here they fill it."""
MODEL = (
    "learner.dtype=bfloat16", "engine.dtype=bfloat16", "retellings=0", "learner.micro_batch_tokens=2048",
)  # fmt: skip
"""Settings for a model folder in place of the embedded policy."""
_TITLES = (("RayTrainWorker", "learner worker"), ("VllmEngine", "policy engine"), ("Mailbox", "mailbox"))
"""What the title of a Ray process contains, and its name in the plan."""
_SAMPLE_SECONDS = 0.5
_MIB = 2**20


@dataclass
class Peaks:
    """The largest memory of each process of the plan, in bytes."""

    names: dict[int, str] = field(default_factory=dict)
    """Name in the plan by process id; a Ray process changes its title with the method it runs."""
    largest: dict[str, float] = field(default_factory=dict)
    total: float = 0.0

    def add(self, sizes: Mapping[int, tuple[str, float, float]]) -> None:
        """Add one sample: title, private and shared bytes by process id."""
        now: dict[str, float] = {}
        for number, (title, private, shared) in sizes.items():
            for part, name in _TITLES:
                if part in title:
                    self.names[number] = name
            name = self.names.get(number, "Ray")
            now[name] = now.get(name, 0.0) + private
            now["Ray"] = now.get("Ray", 0.0) + shared
        for name, size in now.items():
            self.largest[name] = max(self.largest.get(name, 0.0), size)
        self.total = max(self.total, sum(now.values()))


def descendants(root: int, proc: Path = Path("/proc")) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for number in found:
        found += children.get(number, [])
    return found


def memory_of(number: int, proc: Path = Path("/proc")) -> tuple[str, float, float] | None:
    """Return the title of a process, its proportional bytes without shared memory, and those of it."""
    folder = proc / str(number)
    try:
        title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        rows = (line.split() for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
        sizes = {row[0]: 1024.0 * float(row[1]) for row in rows}
    except (OSError, IndexError):
        return None
    shared = sizes.get("Pss_Shmem:", 0.0)
    return title, sizes.get("Pss:", 0.0) - shared, shared


def watch(process: subprocess.Popen[bytes]) -> Peaks:
    """Sample the memory of a process and all below it until it ends."""
    peaks = Peaks(names={process.pid: "driver"})
    while process.poll() is None:
        found = {number: memory_of(number) for number in descendants(process.pid)}
        peaks.add({number: sizes for number, sizes in found.items() if sizes is not None})
        time.sleep(_SAMPLE_SECONDS)
    return peaks


def compare(policy: str, sets: Sequence[str], folder: Path) -> dict[str, Any]:
    """Plan a run, run it, and return planned and measured bytes by process.

    Raises:
        RuntimeError: the run failed.
    """
    assignments = [*SHORT, *(EMBEDDED if policy == "embedded" else MODEL), f"policy={policy}", *sets]
    options = [part for assignment in assignments for part in ("--set", assignment)]
    command = [str(Path(sys.executable).with_name("mica")), "train", *options]
    plan_file = folder / "plan.json"
    subprocess.run([*command, "--dry-run", "--json", str(plan_file)], check=True, stdout=subprocess.DEVNULL)
    memory = json.loads(plan_file.read_text())["memory"]
    planned = {
        name: process["count"] * sum(process["host"].values())
        for name, process in memory["processes"].items()
    }
    with subprocess.Popen([*command, "--set", f"out={folder / 'run'}"], stdout=subprocess.DEVNULL) as process:
        peaks = watch(process)
    if process.returncode:
        raise RuntimeError(f"mica train with policy {policy} ended with status {process.returncode}.")
    measured = {**peaks.largest, "total": peaks.total}
    planned["total"] = memory["host_bytes"]
    return {
        "policy": policy,
        "planned": planned,
        "measured": measured,
        "ratio": {name: measured[name] / size for name, size in planned.items() if name in measured},
        "parts": {name: process["host"] for name, process in memory["processes"].items()},
    }


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return planned and measured memory in MiB, one line per process."""
    table = Table("policy", "process", "planned MiB", "measured MiB", "measured / planned")
    for row in rows:
        planned, measured = row["planned"], row["measured"]
        for name, share in row["ratio"].items():
            table.add_row(
                Path(row["policy"]).name, name, f"{planned[name] / _MIB:.0f}",
                f"{measured[name] / _MIB:.0f}", f"{share:.2f}",
            )  # fmt: skip
    return table


def main() -> None:
    """Compare every policy, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", action="append", default=[], help="model folder; may be repeated")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE")
    options = parser.parse_args()
    rows = []
    for policy in options.policy or ["embedded"]:
        with tempfile.TemporaryDirectory(prefix="plan-accuracy-") as folder:
            rows.append(compare(policy, options.set, Path(folder)))
        write_json(options.json, {"rows": rows})
    Console().print(accuracy_table(rows))


if __name__ == "__main__":
    main()
