"""How much longer does a step take when a fifth of the judge's answers is lost, and what is lost with them?

Command: cluster/with-env python experiments/bench_judge_faults.py [--json FILE]
Time: about one minute on two cores. Expected: a makespan of at most 1.5 times the clean one, every lost turn
counted, and the clean run's advantages to the last bit in every group that lost nothing.
Scripted roles; the judge answers over real HTTP after a set time, or hangs, drops the line, or sends garbage,
half a judgement, 429 or 500. Clean and faulty steps take turns, so that a busy machine slows both alike.
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
    """Requests that met a fault."""
    lost_turns: int
    """Turns without a score, as the trajectories count them."""
    lost_by_proxy: int
    """Judgements that the proxy never answered whole; must equal lost_turns."""
    untouched_groups: int
    different_groups: int
    """Untouched groups whose advantages differ from the clean run's by one bit or more; must be 0."""


async def timed_step(judge: FaultyJudge, options: argparse.Namespace) -> tuple[float, list[Trajectory]]:
    """Collect one step and take its time."""
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
    """Give a group's advantages [N, T], played turns only, as bytes would compare."""
    rows = [row for row, trajectory in enumerate(trajectories) if trajectory.group == group]
    table = Mica()(Rewards()(trajectories))[rows]
    return table[:, : max(len(trajectories[row].turns) for row in rows)]


async def measure(seed: int, options: argparse.Namespace) -> Measurement:
    """Play the same step twice, once with faults of this seed."""
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
    """Lay the measurements side by side."""
    median = statistics.median(item.makespan_ratio for item in measurements)
    table = Table(title=f"A step with and without faults of the judge; median ratio {median:.2f}")
    # A whole group lost no turn; it is different when its advantages are not the clean run's.
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
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--turns", type=int, default=10, help="of a dialogue at most")
    parser.add_argument("--faults", type=float, default=0.2, help="share of the judge's requests")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of a judgement")
    parser.add_argument(
        "--role-latency", type=float, default=0.2, help="seconds of a policy's or role's reply"
    )
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds of one attempt at a judgement")
    parser.add_argument("--concurrency", type=int, default=16, help="judgements at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the table here as well")
    options = parser.parse_args()
    # Imports and first connections are nobody's makespan.
    asyncio.run(timed_step(FaultyJudge(0.0), options))
    measurements = [asyncio.run(measure(seed, options)) for seed in range(options.repeats)]
    Console().print(table_of(measurements))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(m) for m in measurements], indent=2) + "\n")


if __name__ == "__main__":
    main()
