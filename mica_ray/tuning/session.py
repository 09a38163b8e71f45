"""One session of a sweep: its checks, its rounds of trials, its outcome. A later session goes on from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mica_ray.config.overrides import override
from mica_ray.config.references import ConfigError
from mica_ray.files import write_whole
from mica_ray.launch import run
from mica_ray.launch.cluster import cluster_resources, join_ray, joins_cluster
from mica_ray.launch.plan import Plan
from mica_ray.training.loop import Progress, ending_of
from mica_ray.tuning.figures import write_figures
from mica_ray.tuning.folder_lock import locked
from mica_ray.tuning.resources import most_at_once, shared_roles, shared_total, trial_total
from mica_ray.tuning.search import rounds
from mica_ray.tuning.shared_roles import SharedRoles
from mica_ray.tuning.space import JOINT, Cell
from mica_ray.tuning.sweep import Optuna, Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.sweep_result import SweepResult, cell_scores, conclude
from mica_ray.tuning.sweep_tracking import SweepTracking
from mica_ray.tuning.table import sweep_csv, sweep_text_table
from mica_ray.tuning.trial import Trial, make_trials, refuse_other_config, refuse_unknown_reference
from mica_ray.tuning.trial_book import TrialBook, TrialWatch


def with_base(sweep: Sweep, assignments: Sequence[str]) -> Sweep:
    """Give the sweep with keys of its base changed by `key.path=value`.

    Raises:
        ConfigError: a key that the sweep varies, or an assignment that does not fit.
    """
    swept = [single for joined in sweep.space for single in joined.split(JOINT)]
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if key in (*swept, "seed", "out", "name"):
            raise ConfigError(f"--set {assignment}: {key} is the sweep's own; change it in the sweep file")
    try:
        return replace(sweep, base=override(sweep.base, assignments))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{sweep.name}: {error}") from error


def check_sweep(sweep: Sweep, folder: SweepFolder, *, resumes: bool, concurrency: int | None = None) -> Plan:
    """Check a sweep as far as that goes without starting it, and say what it would start.

    Args:
        sweep: to be played.
        folder: its own.
        resumes: whether it goes on there.
        concurrency: most trials at once; None for what fits.

    Raises:
        ConfigError: one line for the first thing that cannot work.
    """
    if folder.book.is_file() and not resumes:
        raise ConfigError(
            f"{folder.path}: holds a sweep; go on with it by --resume, or name another by --out"
        )
    if resumes and not folder.book.is_file():
        raise ConfigError(f"{folder.path}: no sweep to go on with; leave --resume out, or name it by --out")
    inline = is_inline(sweep)
    cells = next(rounds(sweep))
    if not isinstance(sweep.search, Optuna):
        refuse_unknown_reference(sweep, cells)
    trials = make_trials(sweep, cells, folder.trials.absolute())
    for trial in trials:
        refuse_other_config(trial)
    plans = [run.plan(trial.config, inline=inline) for trial in trials[: len(cells)]]
    totals = [trial_total(trial.config, inline=inline, cpus=sweep.cpus) for trial in trials[: len(cells)]]
    if not joins_cluster():
        # Ray counts as many CPUs here as a trial asks for; GPUs were counted above.
        for total in totals:
            most_at_once({"CPU": total["CPU"]}, {"CPU": max(total["CPU"], os.cpu_count() or 1)})
    each, roles = _amounts(totals[0]), shared_roles([trial.config for trial in trials], inline=inline)
    number = getattr(sweep.search, "num_cells", len(cells))
    lines = (
        ("question", sweep.question),
        ("trials", f"{number} cells x {len(sweep.seeds)} seeds in {folder.trials}"),
        (
            "cells",
            "; ".join(cell.name for cell in cells) + ("; then by Optuna" if number > len(cells) else ""),
        ),
        ("metric", f"{sweep.metric}, {sweep.mode}"),
        ("each trial", f"{'one process' if inline else 'engines and learner on Ray'}: {each}"),
        *([("shared", f"{', '.join(roles)}: {_amounts(shared_total(roles))}")] if roles else []),
        ("at once", str(concurrency) if concurrency else "as many as fit"),
    )
    return Plan((*lines, *plans[0].lines))


def _amounts(bundle: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def is_inline(sweep: Sweep) -> bool:
    """Say whether a trial is one process: as the sweep says, or else where no cluster is joined."""
    return sweep.inline if sweep.inline is not None else not joins_cluster()


def make_policies(sweep: Sweep, progress: Progress | None = None) -> None:
    """Make or fetch the policies of the first round once, before several trials would at the same time.

    Raises:
        ConfigError: there is none.
    """
    made: set[tuple[str, str, int]] = set()
    for trial in make_trials(sweep, next(rounds(sweep)), Path("trials")):
        config = trial.config
        key = (config.policy, config.domain, config.policy_seed)
        if key not in made:
            run.policy_folder(config, progress)
            made.add(key)


def play_sweep(
    sweep: Sweep,
    folder: SweepFolder,
    *,
    resumes: bool = False,
    concurrency: int | None = None,
    watches: Sequence[TrialWatch] = (),
) -> SweepResult:
    """Play what is left of a sweep, compare its cells, and leave tables, figures and its MLflow run.

    Args:
        sweep: with its base as it shall be.
        folder: its own; on a cluster, visible on every node.
        resumes: go on there: finished trials are read, others go on from their checkpoints, failed ones get
            their retries anew.
        concurrency: most trials at once; None for as many as the resources hold.
        watches: told of every change of a trial.

    Raises:
        ConfigError: one line for what cannot be done; no trial was started.
    """
    check_sweep(sweep, folder, resumes=resumes, concurrency=concurrency)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.lock(), "another `mica sweep` plays it; wait for its end"), ExitStack() as stack:
        book = TrialBook(sweep, folder.book, watches)
        tracking = SweepTracking(sweep, folder)
        stack.push(lambda _, error, __: tracking.close(book.entries, ending_of(error)))
        unplayed = _play_rounds(sweep, folder, book, tracking, concurrency)
        outcome = conclude(sweep, book.entries, unplayed=unplayed)
        book.close(outcome.record())
        comma_separated, markdown = folder.tables
        write_whole(comma_separated, sweep_csv(outcome))
        write_whole(markdown, sweep_text_table(sweep, outcome).markdown())
        write_figures(sweep, outcome, folder.figures)
        tracking.conclude(outcome)
    return outcome


def _play_rounds(
    sweep: Sweep, folder: SweepFolder, book: TrialBook, tracking: SweepTracking, concurrency: int | None
) -> str:
    """Play round after round; say what ended it before its end, if anything did."""
    from mica_ray.tuning.tune_trials import play_trials

    inline, search = is_inline(sweep), rounds(sweep)
    cells: tuple[Cell, ...] = next(search)
    with ExitStack() as stack:
        roles = SharedRoles()
        while True:
            trials = make_trials(sweep, cells, folder.trials.absolute())
            if book.excess() is None:
                # Before the book is written, which only --resume takes up again.
                trials = tracking.placed(trials)
            refused = book.enter(trials, most=sweep.budget.trials)
            waiting = book.waiting(trials)
            if reason := book.excess():
                return reason
            if waiting:
                cpus = _cpus_here(waiting, sweep, inline=inline, concurrency=concurrency)
                stack.callback(join_ray(cpus=cpus))
                # Ended before Ray is left.
                stack.callback(roles.close)
                at_once = _at_once(waiting, sweep, inline=inline, concurrency=concurrency)
                roles.serve(shared_roles([trial.config for trial in waiting], inline=inline))
                play_trials(sweep, waiting, book, folder=folder, inline=inline, at_once=at_once)
            if reason := book.excess():
                return reason
            if refused:
                return f"budget.trials={sweep.budget.trials} is used up"
            try:
                cells = search.send(cell_scores(sweep, book.entries))
            except StopIteration:
                return ""


def _cpus_here(trials: Sequence[Trial], sweep: Sweep, *, inline: bool, concurrency: int | None) -> float:
    """Give the CPUs that a Ray on this machine counts: those of the trials wanted at once, or of one."""
    each = max(trial_total(trial.config, inline=inline, cpus=sweep.cpus)["CPU"] for trial in trials)
    shared = shared_total(shared_roles([trial.config for trial in trials], inline=inline))
    return each * min(concurrency or 1, len(trials)) + shared["CPU"]


def _at_once(trials: Sequence[Trial], sweep: Sweep, *, inline: bool, concurrency: int | None) -> int:
    available = cluster_resources()
    shared = shared_total(shared_roles([trial.config for trial in trials], inline=inline))
    totals = [trial_total(trial.config, inline=inline, cpus=sweep.cpus) for trial in trials]
    return min(most_at_once(total, available, shared=shared, bound=concurrency) for total in totals)
