"""Short names of estimators for `mica credit`; any other estimator is given as module:NAME."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from mica_ray.config.references import ConfigError, nearest, resolve
from mica_ray.credit import (
    AnchorStates,
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    Rloo,
    TurnGae,
    check_estimator,
)
from mica_ray.credit.mica import Scope
from mica_ray.credit.oracle.mistaken import (
    NormalizeThenAccumulate,
    SummedToOne,
    TokenRecursion,
    TurnsFromRewards,
)


@dataclass(frozen=True, slots=True)
class Mixing:
    """The options of the command that configure estimators; each estimator uses those it has."""

    alpha: float
    gamma: float
    scope: Scope


ESTIMATORS: Mapping[str, Callable[[Mixing], CreditEstimator]] = {
    "mica": lambda mix: Mica(alpha=mix.alpha, gamma=mix.gamma, immediate_scope=mix.scope),
    "turn-only": lambda mix: Mica(alpha=1.0, gamma=mix.gamma),
    "group-only": lambda mix: Mica(alpha=0.0, immediate_scope=mix.scope),
    "return-to-go": lambda mix: ReturnToGo(gamma=mix.gamma),
    "lambda-returns": lambda mix: LambdaReturns(
        alpha=mix.alpha, gamma=mix.gamma, turn_lambda=0.5, scope=mix.scope
    ),
    "turn-gae": lambda mix: TurnGae(gamma=mix.gamma),
    "anchor-states": lambda mix: AnchorStates(gamma=mix.gamma),
    "grpo": lambda _: Grpo(),
    "dr-grpo": lambda _: Grpo(divide=False),
    "rloo": lambda _: Rloo(),
    "reinforce++": lambda _: ReinforcePlusPlus(),
    "reinforce++-idr": lambda _: ReinforcePlusPlus("batch_idr"),
    "reinforce++-baseline": lambda _: ReinforcePlusPlus("baseline"),
    # Forms found in other systems that assign credit wrongly; see credit/oracle/mistaken.py.
    "token-resets": lambda _: TokenRecursion(),
    "nonzero-turns": lambda _: TurnsFromRewards(),
    "normalise-first": lambda _: NormalizeThenAccumulate(),
    "summed-to-one": lambda _: SummedToOne(),
}

DEFAULT = ("mica", "turn-only", "group-only", "grpo", "rloo", "reinforce++")


def named_estimators(names: Sequence[str], mixing: Mixing) -> dict[str, CreditEstimator]:
    """Return the estimators of these names in order, each once; without names those of DEFAULT.

    A reference module:NAME names an estimator, or a class that is called without arguments. It must pass
    `check_estimator`.

    Raises:
        ConfigError: the name is unknown, or the reference is not an estimator.
    """
    return {name: _estimator(name, mixing) for name in names or DEFAULT}


def _estimator(name: str, mixing: Mixing) -> CreditEstimator:
    if ":" not in name:
        if name not in ESTIMATORS:
            raise ConfigError(
                f"Unknown --estimator {name}. {nearest(name, tuple(ESTIMATORS))} Or use module:NAME."
            )
        return ESTIMATORS[name](mixing)
    found = resolve(name)
    try:
        made = found() if isinstance(found, type) else found
        if not callable(made):
            raise TypeError(f"is a {type(found).__name__}. Name an estimator or its class.")
        estimator = cast("CreditEstimator", made)
        check_estimator(estimator)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--estimator {name}: {error}") from error
    return estimator
