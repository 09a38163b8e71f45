"""The frozen values that pass between layers, without I/O. Each carries a worked example.

Shape legend, used in every docstring of the package:
    B trajectories in a batch, N trajectories of one scenario (a group), T turns, R rows of a token batch,
    L tokens, V vocabulary, K axes of the need state (always 3: C cognitive, A affective, P proactive).

Turn indices start at 0, and column t of every [B, T] array is the turn with `Turn.index == t`.
"""

from mica_ray.types.dialogue import (
    AXES,
    ROLES,
    FinishReason,
    Generation,
    Judgement,
    Message,
    RoleAnswer,
    RoleName,
    Sampling,
    Scenario,
    Split,
    State,
    Status,
    Stop,
    Trajectory,
    Turn,
)
from mica_ray.types.language import LANGUAGES, primary_language
from mica_ray.types.reply_options import ReplyOptions, TokenLogprob
from mica_ray.types.training import PolicyWeights, TokenBatch, TurnRewards, UpdateReport

__all__ = [
    "AXES",
    "LANGUAGES",
    "ROLES",
    "FinishReason",
    "Generation",
    "Judgement",
    "Message",
    "PolicyWeights",
    "ReplyOptions",
    "RoleAnswer",
    "RoleName",
    "Sampling",
    "Scenario",
    "Split",
    "State",
    "Status",
    "Stop",
    "TokenBatch",
    "TokenLogprob",
    "Trajectory",
    "Turn",
    "TurnRewards",
    "UpdateReport",
    "primary_language",
]
