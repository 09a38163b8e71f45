"""What does credit over turns cost, compared with recursions over tokens, and are the numbers the same?

Command:  python experiments/bench_credit.py [--peer verl] [--json FILE]
Time:     about three minutes on one core
Expected: MICA takes at most 0.15 times as long as the token recursion of REINFORCE++ at every size, and
          REINFORCE++ over turns equals the same over tokens to 1e-5. One thread, medians of interleaved runs.

The recursions are written here as they usually are: torch, float32, one column of [B, L] at a time.
`--peer verl` also times verl's own functions, if verl can be imported; it is not a dependency.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mica_ray.credit import CreditEstimator, LambdaReturns, Mica
from mica_ray.credit.tokens import spread_over_tokens
from mica_ray.files import write_json
from mica_ray.types import TurnRewards

GAMMA = 1.0
EPS = 1e-8
"""Added to the variance of the tokens' returns."""

RECURSION = "REINFORCE++ over tokens"
"""The baseline of all ratios."""
BY_TURN = "REINFORCE++ over turns"
"""The same formula with our kernels; exact because all replies have the same length."""

OURS: Mapping[str, CreditEstimator] = {
    "MICA": Mica(),
    BY_TURN: LambdaReturns(alpha=0.0, gamma=GAMMA, group_lambda=1.0, scope="batch"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """One batch: B dialogues of L tokens and at most T turns, g of each scenario."""

    dialogues: int
    tokens: int
    turns: int
    group_size: int

    def __post_init__(self) -> None:
        """Check that each turn has room for a token of the user and one of the policy."""
        if min(asdict(self).values()) < 1 or self.tokens < 2 * self.turns:
            raise ValueError(f"--size must have B, T, g >= 1 and L >= 2 T, got {self}.")


SIZES = (
    Size(64, 4096, 8, 4),
    Size(256, 8192, 15, 8),
    Size(64, 25000, 15, 4),
    Size(4096, 2048, 30, 16),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """The same rewards by turn and by token. Building them is not timed."""

    turns: TurnRewards
    turn_ids: np.ndarray
    """[B, L] int64, i * T + t on the tokens of a valid reply, -1 elsewhere."""
    token_rewards: torch.Tensor
    """[B, L] float32, a turn's reward on the last token of its reply."""
    mask: torch.Tensor
    """[B, L] float32, 1 on the tokens of valid replies."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One size. Seconds are medians; ratios are relative to the token recursion of REINFORCE++."""

    size: Size
    seconds: Mapping[str, float]
    ratios: Mapping[str, float]
    difference: float
    """Largest difference between REINFORCE++ over turns and over tokens, no unit."""


def draw(size: Size, seed: int) -> Batch:
    """Draw dialogues of different lengths; in each turn user and policy have half of the tokens each."""
    generator = np.random.default_rng(seed)
    shape = (size.dialogues, size.turns)
    valid = np.arange(size.turns) < generator.integers(1, size.turns + 1, size=(size.dialogues, 1))
    rewards = generator.normal(size=shape).astype(np.float32).astype(np.float64)
    group = np.arange(size.dialogues) // size.group_size
    width = size.tokens // size.turns
    column = np.arange(size.tokens)
    turn = np.minimum(column // width, size.turns - 1)
    is_reply = (column % width >= width // 2) & (column < width * size.turns)
    number = np.arange(size.dialogues)[:, None] * size.turns + turn
    turn_ids = np.where(is_reply & valid[:, turn], number, -1)
    token_rewards = np.zeros(turn_ids.shape, dtype=np.float32)
    token_rewards[:, width - 1 : width * size.turns : width] = np.where(valid, rewards, 0.0)
    return Batch(
        TurnRewards(rewards, valid, group),
        turn_ids,
        torch.from_numpy(token_rewards),
        torch.from_numpy((turn_ids >= 0).astype(np.float32)),
    )


def over_turns(estimator: CreditEstimator) -> Callable[[Batch], np.ndarray]:
    """Return our method: credit over [B, T], then one lookup per token."""
    return lambda batch: spread_over_tokens(estimator(batch.turns), batch.turn_ids)


def whitened(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return values with mean 0 and deviation 1 over the tokens of the mask, 0 elsewhere."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean).square() * mask).sum() / count
    return (values - mean) * torch.rsqrt(variance + EPS) * mask


def token_returns(batch: Batch, *, resets: bool) -> torch.Tensor:
    """Accumulate the return backwards over tokens; at a user token it is kept, or reset to zero."""
    rewards, mask = batch.token_rewards, batch.mask
    returns, running = torch.zeros_like(rewards), torch.zeros(len(rewards))
    for column in range(rewards.shape[1] - 1, -1, -1):
        is_reply = mask[:, column]
        followed = (rewards[:, column] + GAMMA * running) * is_reply
        returns[:, column] = followed
        running = followed if resets else followed + running * (1 - is_reply)
    return whitened(returns, mask)


def from_peer(function: Callable[..., tuple[torch.Tensor, object]]) -> Callable[[Batch], torch.Tensor]:
    """Return the method of another system."""
    config = SimpleNamespace(gamma=GAMMA)

    def advantages(batch: Batch) -> torch.Tensor:
        # Some of them modify their arguments.
        return function(
            token_level_rewards=batch.token_rewards.clone(),
            response_mask=batch.mask,
            index=batch.turns.group,
            config=config,
        )[0]

    return advantages


def contenders(peers: Sequence[str]) -> dict[str, Callable[[Batch], np.ndarray | torch.Tensor]]:
    """Return everything that is timed, by name."""
    ways: dict[str, Callable[[Batch], np.ndarray | torch.Tensor]] = {
        **{name: over_turns(estimator) for name, estimator in OURS.items()},
        RECURSION: lambda batch: token_returns(batch, resets=False),
        "the same, reset by the user": lambda batch: token_returns(batch, resets=True),
    }
    if peers:
        from mica_ray.credit_study.peers import verl_functions

        ways.update({name: from_peer(function) for name, function in verl_functions().items()})
    return ways


def measure(size: Size, options: argparse.Namespace, progress: Progress) -> Measurement:
    """Time all contenders in rotation, so that a busy machine slows them equally."""
    batch = draw(size, options.seed)
    ways = contenders(options.peer)
    by_token, by_turn = (torch.as_tensor(ways[name](batch)) for name in (RECURSION, BY_TURN))
    difference = float((by_token - by_turn).abs().max())
    times: dict[str, list[float]] = {name: [] for name in ways}
    task = progress.add_task(f"{size.dialogues} x {size.tokens}", total=options.repeats)
    for _ in range(options.repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way(batch)
            times[name].append(time.perf_counter() - start)
        progress.advance(task)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    ratios = {name: taken / seconds[RECURSION] for name, taken in seconds.items()}
    return Measurement(size, seconds, ratios, difference)


def table_of(measurements: Sequence[Measurement]) -> Table:
    """Return a table with one column per size."""
    table = Table(title=f"Credit of a batch: milliseconds, and the ratio to {RECURSION}")
    table.add_column("dialogues B\ntokens L\nturns T\ngroup g", overflow="fold")
    for m in measurements:
        table.add_column("\n".join(map(str, asdict(m.size).values())), justify="right", no_wrap=True)
    for name in measurements[0].seconds:
        table.add_row(name, *(f"{1e3 * m.seconds[name]:.1f}  {m.ratios[name]:.3f}" for m in measurements))
    table.add_section()
    table.add_row("difference, turns and tokens", *(f"{m.difference:.0e}" for m in measurements))
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="append", default=[], choices=["verl"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--size",
        type=int,
        nargs=4,
        action="append",
        metavar=("B", "L", "T", "g"),
        help="a size to measure instead of the four",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    # With more threads cores would be compared: the recursions cannot use a second one.
    torch.set_num_threads(1)
    sizes = [Size(*numbers) for numbers in options.size] if options.size else SIZES
    console = Console()
    with Progress(console=console, transient=True) as progress, torch.no_grad():
        measurements = [measure(size, options, progress) for size in sizes]
    console.print(table_of(measurements))
    if options.json is not None:
        write_json(options.json, {"repeats": options.repeats, "sizes": [asdict(m) for m in measurements]})


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        print(f"bench_credit: {error}", file=sys.stderr)
        sys.exit(2)
