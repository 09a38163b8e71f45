"""The contestants of the oracle bench: our estimators, and forms found elsewhere."""

from __future__ import annotations

from mica_ray.credit.anchor_states import AnchorStates
from mica_ray.credit.grpo import Grpo
from mica_ray.credit.lambda_returns import LambdaReturns
from mica_ray.credit.mica import Mica
from mica_ray.credit.oracle.bench import Contestant
from mica_ray.credit.oracle.mistaken import (
    NormalizeThenAccumulate,
    SummedToOne,
    TokenRecursion,
    TurnsFromRewards,
)
from mica_ray.credit.reinforce_pp import ReinforcePlusPlus
from mica_ray.credit.return_to_go import ReturnToGo
from mica_ray.credit.rloo import Rloo
from mica_ray.credit.turn_gae import TurnGae

LEAVE_ONE_OUT = Mica(alpha=1, gamma=1, baseline="leave_one_out", divide=False, lone_turn="return")
"""MICA's turn part without discount, division and shrinkage: unbiased."""

GROUP_MEAN = Mica(alpha=1, gamma=1, divide=False)
"""The same with a mean that includes the dialogue itself."""

OFFERED = (
    # From unbiased to the paper's default, one change per row.
    Contestant("turn, leave-one-out", LEAVE_ONE_OUT),
    Contestant("turn, group mean", GROUP_MEAN),
    Contestant("turn, divided", Mica(alpha=1, gamma=1)),
    Contestant("turn, divided, gamma .85", Mica(alpha=1)),
    Contestant("MICA (+ immediate)", Mica()),
    Contestant("MICA, gamma 1", Mica(gamma=1)),
    Contestant("immediate only", Mica(alpha=0)),
    Contestant("turn, shortest", Mica(alpha=1, horizon="shortest")),
    Contestant("return-to-go", ReturnToGo(), sees_batch=True),
    Contestant("lambda .5, gamma 1", LambdaReturns(alpha=1, gamma=1, turn_lambda=0.5)),
    Contestant("GAE, lambda 1, raw", TurnGae(lam=1, whiten=False), sees_batch=True),
    Contestant("GAE, lambda .95", TurnGae(), sees_batch=True),
    Contestant("  its critic blind", TurnGae(), sees_batch=True, is_blind=True),
    Contestant("anchor states", AnchorStates()),
    Contestant("GRPO", Grpo()),
    Contestant("Dr.GRPO", Grpo(divide=False)),
    Contestant("RLOO", Rloo()),
    Contestant("REINFORCE++ trajectory", ReinforcePlusPlus(), sees_batch=True),
    Contestant("REINFORCE++ batch IDR", ReinforcePlusPlus("batch_idr"), sees_batch=True),
    Contestant("REINFORCE++ baseline", ReinforcePlusPlus("baseline"), sees_batch=True),
)

FOUND_ELSEWHERE = (
    Contestant("token return, resets", TokenRecursion(), sees_batch=True),
    Contestant("token return, carried", TokenRecursion(resets=False), sees_batch=True),
    Contestant("turns from rewards != 0", TurnsFromRewards()),
    Contestant("normalise, accumulate", NormalizeThenAccumulate()),
    Contestant("rewards summed to one", SummedToOne()),
    Contestant("turn, failures as 0", Mica(alpha=1, gamma=1), imputed=True),
)
