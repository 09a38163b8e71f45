"""One session of a sweep: checks, rounds of trials, result. A later session resumes where it ended."""

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
from mica_ray.training.loop import ending_of
from mica_ray.training.progress import Progress
from mica_ray.tuning.figures import write_figures
from mica_ray.tuning.folder_lock import locked
from mica_ray.tuning.resources import max_concurrent, shared_roles, shared_total, trial_total
from mica_ray.tuning.search import rounds
from mica_ray.tuning.shared_roles import SharedRoles
from mica_ray.tuning.space import JOINT, Cell
from mica_ray.tuning.sweep import Optuna, Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.sweep_result import SweepResult, cell_scores, conclude
from mica_ray.tuning.sweep_tracking import SweepTracking
from mica_ray.tuning.table import sweep_csv, sweep_text_table
from mica_ray.tuning.trial import Trial, check_reference, check_same_config, make_trials
from mica_ray.tuning.trial_book import TrialBook, TrialWatch


def with_base(sweep: Sweep, assignments: Sequence[str]) -> Sweep:
    """Return the sweep with keys of its base config changed by `key.path=value`.

    Raises:
        ConfigError: the sweep varies or sets the key, or an assignment is invalid.
    """
    swept = [single for joined in sweep.space for single in joined.split(JOINT)]
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if key in (*swept, "seed", "out", "name"):
            raise ConfigError(f"--set {assignment}: the sweep sets {key}. Change it in the sweep file.")
    try:
        return replace(sweep, base=override(sweep.base, assignments))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{sweep.name}: {error}") from error


def check_sweep(sweep: Sweep, folder: SweepFolder, *, resumes: bool, concurrency: int | None = None) -> Plan:
    """Check a sweep without starting anything, and return what it would start.

    Args:
        sweep: the sweep.
        folder: its folder.
        resumes: whether to resume an earlier session in that folder.
        concurrency: maximum number of trials at a time; None for as many as fit.

    Raises:
        ConfigError: something cannot work. The message names the first problem.
    """
    if folder.book.is_file() and not resumes:
        raise ConfigError(
            f"{folder.path} already contains a sweep. Resume it with --resume, or choose another folder "
            "with --out."
        )
    if resumes and not folder.book.is_file():
        raise ConfigError(
            f"{folder.path} contains no sweep to resume. Omit --resume, or name the folder with --out."
        )
    inline = is_inline(sweep)
    cells = next(rounds(sweep))
    if not isinstance(sweep.search, Optuna):
        check_reference(sweep, cells)
    trials = make_trials(sweep, cells, folder.trials.absolute())
    for trial in trials:
        check_same_config(trial)
    checked = [run.check(trial.config, inline=inline, weights=False) for trial in trials[: len(cells)]]
    totals = [trial_total(trial.config, inline=inline, cpus=sweep.cpus) for trial in trials[: len(cells)]]
    if not joins_cluster():
        # A local Ray is started with as many CPUs as a trial needs; run.check checked the GPUs.
        for total in totals:
            max_concurrent({"CPU": total["CPU"]}, {"CPU": max(total["CPU"], os.cpu_count() or 1)})
    each, roles = _amounts(totals[0]), shared_roles([trial.config for trial in trials], inline=inline)
    number = getattr(sweep.search, "num_cells", len(cells))
    lines = (
        ("question", sweep.question),
        ("trials", f"{number} cells x {len(sweep.seeds)} seeds in {folder.trials}"),
        (
            "cells",
            "; ".join(cell.name for cell in cells)
            + ("; later cells are proposed by Optuna" if number > len(cells) else ""),
        ),
        ("metric", f"{sweep.metric}, {sweep.mode}"),
        ("each trial", f"{'one process' if inline else 'engines and learner on Ray'}: {each}"),
        *([("shared", f"{', '.join(roles)}: {_amounts(shared_total(roles))}")] if roles else []),
        ("concurrency", str(concurrency) if concurrency else "as many as fit"),
    )
    return Plan((*lines, *checked[0].plan.lines))


def _amounts(bundle: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def is_inline(sweep: Sweep) -> bool:
    """Return whether a trial is one process: the sweep's setting, or by default if no cluster is joined."""
    return sweep.inline if sweep.inline is not None else not joins_cluster()


def make_policies(sweep: Sweep, progress: Progress | None = None) -> None:
    """Create or download the policies of the first round, before several trials would do so at once.

    Raises:
        ConfigError: a policy does not exist.
    """
    made: set[tuple[str, str, int]] = set()
    for trial in make_trials(sweep, next(rounds(sweep)), Path("trials")):
        config = trial.config
        key = (config.policy, config.domain, config.policy_seed)
        if key not in made:
            run.policy_folder(run.check(config, inline=is_inline(sweep)), progress)
            made.add(key)


def run_session(
    sweep: Sweep,
    folder: SweepFolder,
    *,
    resumes: bool = False,
    concurrency: int | None = None,
    watches: Sequence[TrialWatch] = (),
) -> SweepResult:
    """Run the remaining trials of a sweep, compare its cells, and write tables, figures and the MLflow run.

    Args:
        sweep: the sweep, with the final base config.
        folder: its folder; on a cluster, visible on every node.
        resumes: whether to resume an earlier session: finished trials are read, others continue from their
            checkpoints, and failed ones can be retried again.
        concurrency: maximum number of trials at a time; None for as many as fit.
        watches: called with every change of a trial.

    Raises:
        ConfigError: the sweep cannot run; no trial was started.
    """
    check_sweep(sweep, folder, resumes=resumes, concurrency=concurrency)
    folder.path.mkdir(parents=True, exist_ok=True)
    refusal = "Another `mica sweep` is running this sweep. Wait until it has ended."
    with locked(folder.lock(), refusal), ExitStack() as stack:
        book = TrialBook(sweep, folder.book, watches)
        tracking = SweepTracking(sweep, folder)
        stack.push(lambda _, error, __: tracking.close(book.entries, ending_of(error)))
        unplayed = _run_rounds(sweep, folder, book, tracking, concurrency)
        outcome = conclude(sweep, book.entries, unplayed=unplayed)
        book.close(outcome.record())
        comma_separated, markdown = folder.tables
        write_whole(comma_separated, sweep_csv(outcome))
        write_whole(markdown, sweep_text_table(sweep, outcome).markdown())
        write_figures(sweep, outcome, folder.figures)
        tracking.conclude(outcome)
    return outcome


def _run_rounds(
    sweep: Sweep, folder: SweepFolder, book: TrialBook, tracking: SweepTracking, concurrency: int | None
) -> str:
    """Run round after round. Return the budget limit that ended the sweep early, empty if none did."""
    from mica_ray.tuning.tune_trials import run_trials

    inline, search = is_inline(sweep), rounds(sweep)
    cells: tuple[Cell, ...] = next(search)
    with ExitStack() as stack:
        roles = SharedRoles()
        while True:
            trials = make_trials(sweep, cells, folder.trials.absolute())
            if book.exceeded_limit() is None:
                # Before the book is written: once it exists, the sweep can only be started with --resume.
                trials = tracking.with_parent(trials)
            refused = book.add(trials, most=sweep.budget.trials)
            waiting = book.waiting(trials)
            if reason := book.exceeded_limit():
                return reason
            if waiting:
                cpus = _cpus_here(waiting, sweep, inline=inline, concurrency=concurrency)
                stack.callback(join_ray(cpus=cpus))
                # The exit stack closes the engines before it disconnects from Ray.
                stack.callback(roles.close)
                limit = _concurrency(waiting, sweep, inline=inline, concurrency=concurrency)
                roles.serve(shared_roles([trial.config for trial in waiting], inline=inline))
                run_trials(sweep, waiting, book, folder=folder, inline=inline, concurrency=limit)
            if reason := book.exceeded_limit():
                return reason
            if refused:
                return f"budget.trials={sweep.budget.trials} is used up"
            try:
                cells = search.send(cell_scores(sweep, book.entries))
            except StopIteration:
                return ""


def _cpus_here(trials: Sequence[Trial], sweep: Sweep, *, inline: bool, concurrency: int | None) -> float:
    """Return the CPUs to start a local Ray with: enough for `concurrency` trials, or for one."""
    each = max(trial_total(trial.config, inline=inline, cpus=sweep.cpus)["CPU"] for trial in trials)
    shared = shared_total(shared_roles([trial.config for trial in trials], inline=inline))
    return each * min(concurrency or 1, len(trials)) + shared["CPU"]


def _concurrency(trials: Sequence[Trial], sweep: Sweep, *, inline: bool, concurrency: int | None) -> int:
    available = cluster_resources()
    shared = shared_total(shared_roles([trial.config for trial in trials], inline=inline))
    totals = [trial_total(trial.config, inline=inline, cpus=sweep.cpus) for trial in trials]
    return min(max_concurrent(total, available, shared=shared, bound=concurrency) for total in totals)
