"""How much longer does a step take when a fifth of the judge's answers fail, and what is lost with them?

Command:   cluster/with-env python experiments/bench_judge_faults.py [--json FILE]
Time:      about one minute on two cores
Expected:  at most 1.5 times the duration of a clean step, every lost turn counted, and in every group that
           lost nothing the advantages of the clean step, to the last bit

Scripted roles. The judge answers over real HTTP after a fixed time, or hangs, drops the connection, or sends
garbage, half a judgement, 429 or 500. Clean and faulty steps alternate, so a busy machine slows both equally.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mica_ray.chat.openai_api import Endpoint
from mica_ray.credit import Mica
from mica_ray.rewards import Rewards
from mica_ray.types import Trajectory
from tests.chat.fault_proxy import FaultyJudge
from tests.rollout.judged_step import judged_step


@dataclass(frozen=True, slots=True)
class Measurement:
    """One clean and one faulty step of the same dialogues."""

    clean_seconds: float
    faulty_seconds: float
    makespan_ratio: float
    num_turns: int
    faults: int
    """Requests with a fault."""
    lost_turns: int
    """Turns without a score, as the trajectories count them."""
    lost_by_proxy: int
    """Judgements that the proxy never answered completely; must equal lost_turns."""
    untouched_groups: int
    different_groups: int
    """Untouched groups whose advantages differ from the clean run's by one bit or more; must be 0."""


async def timed_step(judge: FaultyJudge, options: argparse.Namespace) -> tuple[float, list[Trajectory]]:
    """Collect one step and measure its duration."""
    endpoint = Endpoint(
        model="judge",
        timeout_seconds=options.timeout,
        attempts=4,
        max_concurrency=options.concurrency,
        first_pause_seconds=0.1,
        longest_pause_seconds=0.5,
    )
    start = time.perf_counter()
    trajectories = await judged_step(
        judge,
        endpoint,
        num_scenarios=options.scenarios,
        group_size=options.group_size,
        deadline_seconds=180.0,
        latency_seconds=options.role_latency,
        max_turns=options.turns,
    )
    return time.perf_counter() - start, trajectories


def lost_turns(trajectories: Sequence[Trajectory]) -> int:
    """Count the turns without a score."""
    return sum(not turn.judgement.is_valid for trajectory in trajectories for turn in trajectory.turns)


def advantages(trajectories: Sequence[Trajectory], group: int) -> np.ndarray:
    """Return a group's advantages [N, T] without columns that only padding fills."""
    rows = [row for row, trajectory in enumerate(trajectories) if trajectory.group == group]
    table = Mica()(Rewards()(trajectories))[rows]
    return table[:, : max(len(trajectories[row].turns) for row in rows)]


async def measure(seed: int, options: argparse.Namespace) -> Measurement:
    """Play the same step twice, once with the faults of this seed."""
    clean_seconds, clean = await timed_step(FaultyJudge(0.0, latency_seconds=options.latency), options)
    judge = FaultyJudge(options.faults, seed=seed, latency_seconds=options.latency)
    faulty_seconds, faulty = await timed_step(judge, options)
    groups = sorted({trajectory.group for trajectory in faulty})
    untouched = [
        group for group in groups if not lost_turns([item for item in faulty if item.group == group])
    ]
    different = [
        group
        for group in untouched
        if advantages(clean, group).tobytes() != advantages(faulty, group).tobytes()
    ]
    return Measurement(
        clean_seconds=clean_seconds,
        faulty_seconds=faulty_seconds,
        makespan_ratio=faulty_seconds / clean_seconds,
        num_turns=sum(len(trajectory.turns) for trajectory in faulty),
        faults=judge.faults.total(),
        lost_turns=lost_turns(faulty),
        lost_by_proxy=judge.num_lost,
        untouched_groups=len(untouched),
        different_groups=len(different),
    )


def table_of(measurements: Sequence[Measurement]) -> Table:
    """Return a table with one row per measurement."""
    median = statistics.median(item.makespan_ratio for item in measurements)
    table = Table(title=f"A step with and without judge faults; median ratio {median:.2f}")
    # "untouched" groups lost no turn; "different" ones of them have other advantages than the clean step.
    headings = (
        "clean s",
        "faulty s",
        "ratio",
        "turns",
        "faults",
        "lost",
        "by proxy",
        "untouched",
        "different",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for m in measurements:
        table.add_row(
            f"{m.clean_seconds:.2f}",
            f"{m.faulty_seconds:.2f}",
            f"{m.makespan_ratio:.2f}",
            *map(str, (m.num_turns, m.faults, m.lost_turns, m.lost_by_proxy)),
            *map(str, (m.untouched_groups, m.different_groups)),
        )
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--turns", type=int, default=10, help="maximum number of turns in a dialogue")
    parser.add_argument("--faults", type=float, default=0.2, help="share of the judge's requests that fail")
    parser.add_argument("--latency", type=float, default=0.2, help="duration of a judgement, seconds")
    parser.add_argument("--role-latency", type=float, default=0.2, help="duration of other replies, seconds")
    parser.add_argument(
        "--timeout", type=float, default=1.0, help="timeout of one attempt at a judgement, seconds"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="judgements at the same time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    # Warm-up: imports and first connections are not part of a step.
    asyncio.run(timed_step(FaultyJudge(0.0), options))
    measurements = [asyncio.run(measure(seed, options)) for seed in range(options.repeats)]
    Console().print(table_of(measurements))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(m) for m in measurements], indent=2) + "\n")


if __name__ == "__main__":
    main()
