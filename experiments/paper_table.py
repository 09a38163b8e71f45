"""What do two small real models score on the paper's benchmarks, and may one of them judge?

Command:   cluster/with-env python experiments/paper_table.py --models SMALL LARGER --data DIR --out DIR
Time:      about 2 hours on two idle cores (3 with --cpus 1), models of 135 M and 0.5 B parameters; resumable:
           the same command continues with what is missing, and --only NAME repeats one step's failed calls.
Expected:  EmoBench near chance and most answers of EQ-Bench v2 unreadable; a judge card that advises against
           this judge. The path works; the numbers say little about models that people would use.

DIR holds the user's copies: emobench/, eqbench2/eq_bench_v2_questions_171.json, eqbench3/ and empa/ with
recorded runs. LARGER judges turns, rates cards and answers the benchmarks without a judge; SMALL plays
EQ-Bench 3, EMPA and the screening of cards in all roles.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

_POLICY = ("--set", "engine.dtype=bfloat16", "--set", "rollout.generate_deadline_seconds=900")
LABELS = ("small", "larger")
_PATIENT = ("--set", "roles.deadline_seconds=900", "--set", "roles.engine.cpus_per_engine=1")
"""Two cores need minutes for a prompt with a whole dialogue."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and the file that exists once it has ended well."""

    name: str
    arguments: tuple[str, ...]
    result: Path


def steps(
    small: Path, larger: Path, data: Path, out: Path, *, limit: int, cases: int, cpus: int = 2
) -> list[Step]:
    """Return all steps, in the order in which they run: the short ones first.

    Args:
        small: model folder, for everything that needs many calls.
        larger: model folder.
        data: the user's copies of the benchmarks.
        out: of all results.
        limit: questions of EmoBench for each part and language.
        cases: of EMPA, to play and to screen.
        cpus: of the policy's engine where it works alone.
    """
    found: list[Step] = []
    alone = (*_POLICY, "--set", f"engine.cpus_per_engine={cpus}")

    def add(name: str, *arguments: str | Path, has_json: bool = True) -> None:
        result = out / f"{name}.json"
        texts = tuple(str(argument) for argument in arguments)
        found.append(Step(name, (*texts, *(("--json", str(result)) if has_json else ())), result))

    judge, small_judge = f"vllm:{larger}", f"vllm:{small}"
    ratings = out / "ratings.jsonl"
    add(
        "rate", "data", "rate", data / "empa", "--judge", judge, "--out", ratings,
        "--limit", str(2 * cases), "--concurrency", "2", *_PATIENT,
    )  # fmt: skip
    models = dict(zip(LABELS, (small, larger), strict=True))
    for label, model in models.items():
        questions = data / "eqbench2" / "eq_bench_v2_questions_171.json"
        folder = out / f"eqbench2-{label}"
        add(
            f"eqbench2_{label}", "evaluate", "eqbench2", "--policy", model, "--data", questions,
            "--out", folder, *alone,
        )  # fmt: skip
    for label, model in models.items():
        add(
            f"emobench_{label}", "evaluate", "emobench", "--policy", model, "--data", data / "emobench",
            "--out", out / f"emobench-{label}", "--limit", str(limit), *alone,
        )  # fmt: skip
    add(
        "empa", "evaluate", "empa", "--policy", small, "--judge", small_judge, "--cards", data / "empa",
        "--cases", str(cases), "--out", out / "empa-small", "--set", 'rules={"max_turns": 12}', *_PATIENT,
    )  # fmt: skip
    add(
        "eqbench3", "evaluate", "eqbench3", "score", "--policy", small, "--judge", small_judge,
        "--data", data / "eqbench3", "--limit", "1", "--out", out / "eqbench3-small", *_PATIENT,
    )  # fmt: skip
    add(
        "screen", "data", "screen", data / "empa", "--policy", small, "--judge", small_judge,
        "--limit", str(2 * cases), "--out", out / "screened.jsonl",
        "--set", 'rules={"max_turns": 6}', *_PATIENT,
    )  # fmt: skip
    add(
        "judge_card", "judges", "card", "--judge", judge, data / "empa" / "recorded_runs" / "qwen3-8b.jsonl",
        "--cards", data / "empa", "--turns", "6", "--repeats", "2", "--concurrency", "2",
        "--out", out / "judge-card", *_PATIENT, has_json=False,
    )  # fmt: skip
    folders = [f"{label}={out / f'{name}-{label}'}" for name in ("eqbench2", "emobench") for label in LABELS]
    folders += [f"small={out / 'empa-small'}", f"small={out / 'eqbench3-small'}"]
    add("table", "evaluate", "table", *folders, "--base", "small", "--out", out / "table")
    return found


def run_steps(
    chosen: Sequence[Step], run: Callable[[Step], int], console: Console, *, again: bool = False
) -> list[str]:
    """Run the steps that have no result yet; one that fails does not stop the others.

    Args:
        chosen: the steps, in order.
        run: runs one step and returns its exit status.
        console: for the progress.
        again: also run steps that have a result, for answers that failed.

    Returns:
        The names of the steps that failed.
    """
    failed: list[str] = []
    for number, step in enumerate(chosen, 1):
        where = f"step {number} of {len(chosen)}, {step.name}"
        if step.result.exists() and not again:
            console.print(f"{where}: done before", highlight=False)
            continue
        console.print(f"{where}: mica {' '.join(step.arguments)}", highlight=False, soft_wrap=True)
        begin = time.monotonic()
        status = run(step)
        if status == 0 and not step.result.exists():
            step.result.write_text("{}\n")
        if status:
            failed.append(step.name)
        console.print(
            f"{where}: exit status {status} after {time.monotonic() - begin:.0f} s", highlight=False
        )
    return failed


def main() -> None:
    """Run the missing steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=Path, nargs=2, required=True, metavar=("SMALL", "LARGER"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=25, help="questions of EmoBench by part and language")
    parser.add_argument("--cases", type=int, default=3, help="cases of EMPA")
    parser.add_argument("--only", nargs="*", help="names of steps")
    parser.add_argument("--cpus", type=int, default=2, help="of an engine that answers questions")
    arguments = parser.parse_args()
    small, larger = arguments.models
    all_steps = steps(
        small,
        larger,
        arguments.data,
        arguments.out,
        limit=arguments.limit,
        cases=arguments.cases,
        cpus=arguments.cpus,
    )
    names = [step.name for step in all_steps]
    if unknown := set(arguments.only or ()) - set(names):
        parser.error(f"--only: no step {', '.join(sorted(unknown))}. Steps: {', '.join(names)}.")
    chosen = [step for step in all_steps if not arguments.only or step.name in arguments.only]
    arguments.out.mkdir(parents=True, exist_ok=True)

    def run(step: Step) -> int:
        command = [sys.executable, "-c", "from mica_ray.cli import main; main()", *step.arguments]
        return subprocess.run(command, check=False).returncode

    if failed := run_steps(chosen, run, Console(), again=bool(arguments.only)):
        sys.exit(f"Failed: {', '.join(failed)}. Run the same command again to repeat only these.")


if __name__ == "__main__":
    main()
