"""What one trial takes of a cluster, and how many of them fit at once. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import RoleConfig
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.plan import cpus_wanted, gpus_wanted
from mica_ray.launch.start_engines import role_engines_name

Bundle = Mapping[str, float]


def trial_bundles(config: RunConfig, *, inline: bool, cpus: float) -> tuple[Bundle, ...]:
    """Give the bundles of a trial's placement group: its driving process, then one for each engine.

    The learner's workers are in none: Ray Train makes a placement group of its own for them, for which
    `most_at_once` leaves room. Nor are the role models' engines, which the trials share.

    Args:
        config: of the trial.
        inline: whether the driving process does everything.
        cpus: of the driving process.
    """
    if inline:
        return ({"CPU": cpus},)
    policy = {"CPU": config.engine.cpus_per_engine, "GPU": config.engine.gpus_per_engine}
    bundles = [{"CPU": cpus}, *[policy] * config.num_engines]
    return tuple({name: amount for name, amount in bundle.items() if amount} for bundle in bundles)


def trial_total(config: RunConfig, *, inline: bool, cpus: float) -> Bundle:
    """Give all a trial takes for itself, its learner included."""
    if inline:
        return {"CPU": cpus}
    shared = shared_total(shared_roles([config], inline=False))
    return {
        "CPU": cpus + cpus_wanted(config) - shared["CPU"],
        "GPU": gpus_wanted(config) - shared["GPU"],
    }


def shared_roles(configs: Iterable[RunConfig], *, inline: bool) -> Mapping[str, tuple[RoleConfig, str]]:
    """Give which engines of role models the trials of a sweep share: one set where they are equal.

    Args:
        configs: of the trials.
        inline: whether each trial is one process, which shares nothing.

    Returns:
        Roles and model by the engines' name.
    """
    return {
        role_engines_name(config.roles, model): (config.roles, model)
        for config in ([] if inline else configs)
        for model in config.roles.served_models
    }


def shared_total(shared: Mapping[str, tuple[RoleConfig, str]]) -> Bundle:
    """Give all that shared engines take together."""
    each = [(roles.num_engines, roles.engine) for roles, _ in shared.values()]
    return {
        "CPU": sum(number * engine.cpus_per_engine for number, engine in each),
        "GPU": sum(number * engine.gpus_per_engine for number, engine in each),
    }


def most_at_once(
    wanted: Bundle, available: Bundle, *, shared: Bundle | None = None, bound: int | None = None
) -> int:
    """Give how many trials run at once, such that each of them gets all it takes.

    Args:
        wanted: by one trial.
        available: in the cluster.
        shared: by engines that all trials ask.
        bound: the most that the user wants.

    Raises:
        ConfigError: not even one fits.
    """
    taken = shared or {}
    left = {name: available.get(name, 0.0) - taken.get(name, 0.0) for name in {**wanted, **taken}}
    for name, amount in {**dict.fromkeys(taken, 0.0), **wanted}.items():
        if amount > left[name]:
            besides = f" besides {taken[name]:g} for the roles' shared engines" if taken.get(name) else ""
            raise ConfigError(
                f"one trial takes {amount:g} {name}s{besides} and the cluster has "
                f"{available.get(name, 0.0):g}; lower its engines, its ray_learner.num_workers or the "
                "sweep's cpus, or name a larger cluster in RAY_ADDRESS"
            )
    fitting = min(int(left[name] // amount) for name, amount in wanted.items() if amount)
    return min(fitting, bound) if bound is not None else fitting
