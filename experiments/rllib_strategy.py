"""Does a critic with GAE teach PPO sooner than MICA's credit when to offer which kind of support?

Command:   python experiments/rllib_strategy.py --out runs/rllib_strategy
Time:      11 seconds to a minute per run on one core; arms x seeds runs, resumable
Expected:  strategy.json and strategy.png: return against environment steps, 95 % intervals over seeds
Paper:     MICA needs no learned critic (2603.06194); this compares it with one

The embedded world without language: RLlib's PPO chooses a kind of support in each turn. All arms share
learner, optimizer, network, scenarios and batches of whole dialogues; only the connector that writes
advantages differs. `gae_mica_gamma` gives the critic MICA's discount, to separate the effect of a shorter
horizon.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mica_ray.credit import Mica
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.reply_reader import Kind
from mica_ray.evaluation.tables import format_interval
from mica_ray.files import write_json
from mica_ray.rllib.ppo import StrategyRun
from mica_ray.rllib.strategy_env import GUARDED_ABOUT, KINDS, POINTS, StrategyEnv
from mica_ray.statistics import bootstrap_mean

BASE = StrategyRun(EMOTIONAL_SUPPORT)
ARMS: Mapping[str, StrategyRun] = {
    "gae": BASE,
    "gae_mica_gamma": replace(BASE, gamma=Mica().gamma, gae_lambda=0.95),
    "mica": replace(BASE, credit=Mica()),
}
TITLES = {
    "gae": "PPO, critic and GAE as shipped",
    "gae_mica_gamma": "PPO, critic and GAE, MICA's discount, lambda 0.95",
    "mica": "PPO, MICA credit, no critic",
}

STRONGEST = (Kind.REFRAME, Kind.ACKNOWLEDGE, Kind.STEP)
"""The kind that helps most with C, A and P once that need is open."""

NUM_POINTS = 40
"""Points of a drawn curve: the returns of all runs are interpolated at the same environment steps."""
LAST_FRACTION = 0.1
"""Share of the budget over which the final return is averaged."""


class Curve(TypedDict):
    """One run: environment steps after each batch, and the mean return of the batch's dialogues."""

    steps: list[int]
    returns: list[float]
    turns: list[float]
    seconds: float


def main() -> None:
    """Run the missing arms, then write one table, one figure and one file."""
    options = _options()
    console = Console()
    curves: dict[str, list[Curve]] = {arm: [] for arm in options.arms}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(options.arms) * len(options.seeds) * options.steps)
        for seed in options.seeds:
            for arm in options.arms:
                progress.update(task, description=f"{arm}, seed {seed}")
                curve = _run_arm(arm, seed, options)
                curves[arm].append(curve)
                progress.advance(task, options.steps)
    speed = _steps_per_second()
    write_json(options.out / "strategy.json", {**_record(curves, options), "steps_per_second": speed})
    _draw(curves, options, options.out / "strategy.png")
    console.print(_table(curves, options))
    console.print(f"the environment runs {speed:,.0f} steps per second on one core", highlight=False)
    console.print(f"written to {options.out}: strategy.json, strategy.png", highlight=False, soft_wrap=True)


def _run_arm(arm: str, seed: int, options: argparse.Namespace) -> Curve:
    """Return the curve of one run, from its file if it was run before."""
    import ray

    path = options.out / f"{arm}-seed{seed}-{options.steps}.json"
    if path.is_file():
        return json.loads(path.read_text())
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    run = replace(ARMS[arm], seed=seed)
    curve = Curve(steps=[], returns=[], turns=[], seconds=0.0)
    began = time.perf_counter()
    algorithm = run.config().build_algo()
    try:
        while not curve["steps"] or curve["steps"][-1] < options.steps:
            measured = algorithm.train()["env_runners"]
            # Means over exactly this batch, since the window is as long as the batch.
            taken = round(measured["episode_len_mean"] * run.num_dialogues)
            curve["steps"].append((curve["steps"][-1] if curve["steps"] else 0) + taken)
            curve["returns"].append(float(measured["episode_return_mean"]))
            curve["turns"].append(float(measured["episode_len_mean"]))
    finally:
        algorithm.stop()
    curve["seconds"] = time.perf_counter() - began
    write_json(path, curve)
    return curve


def _at_steps(curves: Sequence[Curve], steps: np.ndarray) -> np.ndarray:
    """Return the returns [S, P] of S runs at the same steps, interpolated between batches."""
    return np.array([np.interp(steps, curve["steps"], curve["returns"]) for curve in curves])


def _final(curves: Sequence[Curve], options: argparse.Namespace) -> np.ndarray:
    """Return each run's mean return over the last part of the budget, [S]."""
    return _at_steps(curves, np.linspace((1 - LAST_FRACTION) * options.steps, options.steps, 20)).mean(axis=1)


def _over_budget(curves: Sequence[Curve], options: argparse.Namespace) -> np.ndarray:
    """Return each run's mean return over the whole budget, [S], which is lower if it learns later."""
    first = min(curve["steps"][0] for curve in curves)
    return _at_steps(curves, np.linspace(first, options.steps, 200)).mean(axis=1)


def _references() -> dict[str, float]:
    """Return the mean return of two fixed strategies, over ten dialogues of every scenario."""
    generator = np.random.default_rng(0)
    return {
        "uniformly random": _played(lambda seen: int(generator.integers(len(KINDS)))),
        "always the need in focus": _played(_for_the_focus),
    }


def _for_the_focus(seen: np.ndarray) -> int:
    """Return the strongest kind for the first open and unmet need, or for the last need."""
    keys = [axis.key for axis in BASE.domain.axes]
    order = [keys.index(key) for key in BASE.domain.need_order]
    waiting = [axis for axis in order if seen[axis] * POINTS <= -1 and not seen[GUARDED_ABOUT][axis]]
    return KINDS.index(STRONGEST[(waiting or order[-1:])[0]])


def _played(choose: Callable[[np.ndarray], int]) -> float:
    """Return the mean return of ten dialogues of every scenario."""
    environment = StrategyEnv(BASE.domain, specific_fraction=BASE.specific_fraction)
    environment.reset(seed=0)
    total = 0.0
    for scenario in environment.scenarios * 10:
        seen, _ = environment.reset(options={"scenario": scenario.id})
        is_over = False
        while not is_over:
            seen, reward, is_over, _, _ = environment.step(choose(seen))
            total += reward
    return total / (10 * len(environment.scenarios))


def _steps_per_second(num_steps: int = 20_000) -> float:
    """Return environment steps per CPU second with random choices, resets included."""
    environment = StrategyEnv(BASE.domain)
    environment.reset(seed=0)
    began = time.process_time()
    for choice in np.random.default_rng(0).integers(len(KINDS), size=num_steps):
        if environment.step(choice)[2]:
            environment.reset()
    return num_steps / (time.process_time() - began)


def _table(curves: Mapping[str, Sequence[Curve]], options: argparse.Namespace) -> Table:
    table = Table(
        title=f"PPO on kinds of support, {options.steps} environment steps, {len(options.seeds)} seeds",
        caption="points of distance that a dialogue removes (IDR), 95 % bootstrap intervals over seeds",
    )
    for column in ("arm", "final return", "mean over the budget", "turns at the end", "seconds per run"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, runs in curves.items():
        table.add_row(
            TITLES[arm],
            format_interval(bootstrap_mean(_final(runs, options), seed=0)),
            format_interval(bootstrap_mean(_over_budget(runs, options), seed=0)),
            f"{np.mean([curve['turns'][-1] for curve in runs]):.1f}",
            f"{np.mean([curve['seconds'] for curve in runs]):.0f}",
        )
    for name, earned in _references().items():
        table.add_row(name, f"{earned:.2f}", "", "", "")
    return table


def _record(curves: Mapping[str, Sequence[Curve]], options: argparse.Namespace) -> dict[str, object]:
    measures = {"final": _final, "over_budget": _over_budget}
    return {
        "steps": options.steps,
        "seeds": options.seeds,
        "arms": {
            arm: {
                "credit": repr(ARMS[arm].credit),
                "gamma": ARMS[arm].gamma,
                "gae_lambda": ARMS[arm].gae_lambda,
                "curves": runs,
                **{
                    name: asdict(bootstrap_mean(measure(runs, options), seed=0))
                    for name, measure in measures.items()
                },
            }
            for arm, runs in curves.items()
        },
        "references": _references(),
    }


def _draw(curves: Mapping[str, Sequence[Curve]], options: argparse.Namespace, path: Path) -> None:
    """Draw the mean return against environment steps, with the interval over seeds as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for arm, runs in curves.items():
        first = max(curve["steps"][0] for curve in runs)
        steps = np.linspace(first, options.steps, NUM_POINTS)
        intervals = [bootstrap_mean(column, seed=0) for column in _at_steps(runs, steps).T]
        (line,) = axes.plot(steps, [interval.estimate for interval in intervals], label=TITLES[arm])
        low, high = ([getattr(interval, side) for interval in intervals] for side in ("low", "high"))
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2)
    for (name, earned), style in zip(_references().items(), (":", "--"), strict=True):
        axes.axhline(earned, color="black", linestyle=style, linewidth=1, label=name)
    axes.set_xlabel("environment steps (turns of dialogue)")
    axes.set_ylabel("return of a dialogue, points of distance")
    axes.set_title(f"Embedded world, kinds of support; mean of {len(options.seeds)} seeds, 95 % intervals")
    axes.legend()
    figure.savefig(path, dpi=150)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="PPO on kinds of support, with GAE and with MICA credit.")
    parser.add_argument("--out", type=Path, default=Path("runs/rllib_strategy"))
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of a run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
