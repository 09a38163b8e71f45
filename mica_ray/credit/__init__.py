"""Credit estimators: from per-turn rewards to per-turn advantages. Needs only numpy.

README.md in this folder lists them, shows them in other trainers, and explains how to write one.
"""

from mica_ray.credit.anchor_states import AnchorStates
from mica_ray.credit.estimator import CreditEstimator, check_estimator
from mica_ray.credit.grpo import Grpo
from mica_ray.credit.lambda_returns import LambdaReturns
from mica_ray.credit.mica import Mica
from mica_ray.credit.reinforce_pp import ReinforcePlusPlus
from mica_ray.credit.return_to_go import ReturnToGo
from mica_ray.credit.rloo import Rloo
from mica_ray.credit.turn_gae import TurnGae

__all__ = [
    "AnchorStates",
    "CreditEstimator",
    "Grpo",
    "LambdaReturns",
    "Mica",
    "ReinforcePlusPlus",
    "ReturnToGo",
    "Rloo",
    "TurnGae",
    "check_estimator",
]
