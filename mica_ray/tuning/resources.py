"""Resources that a trial needs, and how many trials fit into the cluster at once. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import RoleConfig
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.plan import cpus_wanted, gpus_wanted
from mica_ray.launch.start_engines import role_engines_name

Bundle = Mapping[str, float]


def trial_bundles(config: RunConfig, *, inline: bool, cpus: float) -> tuple[Bundle, ...]:
    """Return the bundles of a trial's placement group: its driver process, then one per engine.

    Learner workers are not included: Ray Train creates their placement group, and `max_concurrent` leaves
    room for it. Engines of role models are not included either: the trials share them.

    Args:
        config: of the trial.
        inline: whether the driver process does all the work.
        cpus: CPUs of the driver process.
    """
    if inline:
        return ({"CPU": cpus},)
    policy = {"CPU": config.engine.cpus_per_engine, "GPU": config.engine.gpus_per_engine}
    bundles = [{"CPU": cpus}, *[policy] * config.num_engines]
    return tuple({name: amount for name, amount in bundle.items() if amount} for bundle in bundles)


def trial_total(config: RunConfig, *, inline: bool, cpus: float) -> Bundle:
    """Return all resources of one trial, including its learner, without the shared engines."""
    if inline:
        return {"CPU": cpus}
    shared = shared_total(shared_roles([config], inline=False))
    return {
        "CPU": cpus + cpus_wanted(config) - shared["CPU"],
        "GPU": gpus_wanted(config) - shared["GPU"],
    }


def shared_roles(configs: Iterable[RunConfig], *, inline: bool) -> Mapping[str, tuple[RoleConfig, str]]:
    """Return the role model engines that the trials of a sweep share, without duplicates.

    Args:
        configs: of the trials.
        inline: whether each trial is one process; such trials share no engines.

    Returns:
        Role config and model, by the name of the engines.
    """
    return {
        role_engines_name(config.roles, model): (config.roles, model)
        for config in ([] if inline else configs)
        for model in config.roles.served_models
    }


def shared_total(shared: Mapping[str, tuple[RoleConfig, str]]) -> Bundle:
    """Return the resources of all shared engines together."""
    each = [(roles.num_engines, roles.engine) for roles, _ in shared.values()]
    return {
        "CPU": sum(number * engine.cpus_per_engine for number, engine in each),
        "GPU": sum(number * engine.gpus_per_engine for number, engine in each),
    }


def max_concurrent(
    wanted: Bundle, available: Bundle, *, shared: Bundle | None = None, bound: int | None = None
) -> int:
    """Return how many trials can run at the same time with all their resources.

    Args:
        wanted: resources of one trial.
        available: resources of the cluster.
        shared: resources of the shared role model engines.
        bound: the user's limit.

    Raises:
        ConfigError: not even one trial fits.
    """
    taken = shared or {}
    left = {name: available.get(name, 0.0) - taken.get(name, 0.0) for name in {**wanted, **taken}}
    for name, amount in {**dict.fromkeys(taken, 0.0), **wanted}.items():
        if amount > left[name]:
            besides = f", and the roles' shared engines need {taken[name]:g}" if taken.get(name) else ""
            raise ConfigError(
                f"One trial needs {amount:g} {name}s{besides}, but the cluster has "
                f"{available.get(name, 0.0):g}. Lower num_engines, ray_learner.num_workers or the sweep's "
                "cpus, or set RAY_ADDRESS to a larger cluster."
            )
    fitting = min(int(left[name] // amount) for name, amount in wanted.items() if amount)
    return min(fitting, bound) if bound is not None else fitting
