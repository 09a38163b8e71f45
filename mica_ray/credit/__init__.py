"""Per-turn rewards -> per-turn advantages. Each estimator is a frozen value one calls; numpy only, no I/O."""

from mica_ray.credit.estimator import CreditEstimator, check_estimator
from mica_ray.credit.grpo import Grpo
from mica_ray.credit.mica import Mica
from mica_ray.credit.reinforce_pp import ReinforcePlusPlus
from mica_ray.credit.rloo import Rloo

__all__ = ["CreditEstimator", "Grpo", "Mica", "ReinforcePlusPlus", "Rloo", "check_estimator"]
