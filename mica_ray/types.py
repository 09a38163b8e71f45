"""The frozen values that cross floors. No behaviour beyond what a value can say of itself, no I/O.

Shape legend, used in every docstring of the package:
    B trajectories in a batch, N trajectories of one scenario (a group), T turns, R rows of a token batch,
    L tokens, V vocabulary, K axes of the need state (always 3: C cognitive, A affective, P proactive).

Turn indices are data: they start at 0, and column t of every [B, T] array is the turn with `Turn.index == t`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypedDict, get_args

import numpy as np

State = tuple[float, float, float]
"""A need state (C, A, P) in points. The origin means "needs met", negative values are a deficit."""

AXES = ("C", "A", "P")
"""Keys of the axes of a need state, in its order: cognitive, affective, proactive."""

RoleName = Literal["actor", "director", "judge"]
"""A role of the simulated world. The policy is not one of them."""
ROLES: tuple[RoleName, ...] = get_args(RoleName)

Split = Literal["train", "valid", "test"]


class Message(TypedDict):
    """One chat message in the form every chat API takes."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model samples. The defaults are the paper's: temperature 1, no truncation of the distribution."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    """Tokens of one reply at most."""
    seed: int | None = None
    """None: the model's own randomness. Equal seeds on an equal model and prompt give equal replies."""
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values no engine can sample with."""
        if self.temperature < 0:
            raise ValueError(f"temperature must be >= 0; got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1]; got {self.top_p}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be >= 1; got {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who the simulated user is and where the dialogue starts. Loaded, never edited."""

    id: str
    domain: str
    category: str
    dominant_axis: str
    """Key of the axis this user needs most: "C", "A" or "P"."""
    persona: str
    """Who speaks and how, in the third person; shown to the roles, never to the policy."""
    opening: str
    """The user's first message; empty where the Actor finds it himself."""
    initial_state: State
    """P_0, points, no component above 0."""
    stages: tuple[str, ...]
    """Story fragments in the user's own voice, in the order in which the Director may reveal them."""
    split: Split
    language: str = "en"
    topic: str = ""
    """What the story turns on, as the user would name it ("my sister's wedding"); empty when not given."""
    # Not in the repr: an embedded policy's cache goes by it, and such a policy knows no difficulties.
    difficulty: str = field(default="", repr=False)
    """How hard the benchmark calls this user; empty when not given."""


class Status(StrEnum):
    """What became of one answer of a role. Everything but the first three is a failure, and never a score."""

    OK = "ok"
    RETRIED = "retried"
    REPAIRED = "repaired"
    INVALID = "invalid"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"

    @property
    def failure_kind(self) -> Literal["data", "infrastructure"] | None:
        """What failed: what the model said, or whatever should have let it speak; None for an answer."""
        if self is Status.INVALID:
            return "data"
        return "infrastructure" if self in (Status.TIMED_OUT, Status.ABANDONED) else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge said of one reply. `delta is None` means the judge failed: it is not a zero score."""

    progress: tuple[int, int, int] | None
    """Levels 0, 1, 2 per axis (C, A, P)."""
    regress: tuple[int, int, int] | None
    """Levels 0, -1, -2 per axis (C, A, P)."""
    delta: State | None
    """v_t, the change of state in points."""
    evidence: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text per field of the rubric, for reports."""
    status: Status = Status.OK
    error: str | None = None
    """Why the judgement failed; None when it did not."""

    @property
    def is_valid(self) -> bool:
        """Whether the judgement may be used as a score."""
        return self.delta is not None

    @classmethod
    def failed(cls, status: Status, error: str) -> Judgement:
        """Give the judgement of a judge that gave none."""
        return cls(progress=None, regress=None, delta=None, status=status, error=error)


@dataclass(frozen=True, slots=True)
class Generation:
    """One reply of the policy as tokens, exactly as sampled; training uses these and never re-tokenises."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """Sampled tokens, the end-of-turn token included when it was sampled."""
    logprobs: tuple[float, ...]
    """Log probability of each sampled token under the sampling policy (temperature applied), nats."""
    text: str
    finish_reason: Literal["stop", "length"]
    policy_version: int
    """Version of the weights that sampled it."""


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """How a role's answer in a turn came about; the judge's is told by its `Judgement`."""

    role: Literal["director", "actor"]
    status: Status
    error: str | None = None
    """Why there is no answer; None when there is one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the user spoke, the policy replied, the judge scored the reply."""

    index: int
    user: str
    reply: str
    judgement: Judgement
    state_after: State
    """P_t; carried over unchanged when the judgement failed."""
    generation: Generation | None = None
    """None when the policy is a text-only model."""
    guidance: str | None = None
    """What the Director told the Actor before this user message, None when nothing."""
    answers: tuple[RoleAnswer, ...] = ()
    """Of the roles asked after the judgement, in the order in which they were."""


class Stop(StrEnum):
    """Why a dialogue ended."""

    SUCCESS = "success"
    COLLAPSE = "collapse"
    STALL = "stall"
    ENDED = "ended"
    """The Director ended it."""
    LIMIT = "limit"
    """Truncated: turn or context limit."""
    FAILED = "failed"
    """A simulator or an engine failed; the dialogue says nothing about the policy."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one dialogue."""

    scenario: Scenario
    group: int
    """Equal for the dialogues of one scenario in one step."""
    sample: int
    """0..N-1 within the group."""
    turns: tuple[Turn, ...]
    stop: Stop
    error: str | None = None
    """The reason when `stop` is FAILED."""
    director_failures: int = 0
    """Decisions that the Director failed to give; the dialogue went on without them."""

    @property
    def states(self) -> np.ndarray:
        """The state path [T+1, K], points, P_0 first."""
        path: Sequence[State] = [self.scenario.initial_state, *(turn.state_after for turn in self.turns)]
        return np.asarray(path, dtype=np.float64)

    @property
    def is_success(self) -> bool:
        """Whether the user's needs were met by the domain's rules."""
        return self.stop is Stop.SUCCESS


@dataclass(frozen=True, slots=True)
class TurnRewards:
    """All that a credit estimator may see.

    Attributes:
        rewards: [B, T] float64, reward units (points of distance); arbitrary where not valid.
        valid: [B, T] bool, the turn was played and judged. Holes are possible: a failed judgement.
        group: [B] int, equal for dialogues of one scenario.
        states: [B, T, K] float64, what was held of the user when the reply of turn t was given (the need
            state P_{t-1}, points); arbitrary where not valid. None where nobody recorded it. Most estimators
            do not look; one that does (anchor states, a critic) says so when there are none. A field and no
            argument of an estimator: states belong to dialogues, an estimator outlives many batches of them.
    """

    rewards: np.ndarray
    valid: np.ndarray
    group: np.ndarray
    states: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that disagree."""
        shape = self.rewards.shape
        if len(shape) != 2 or self.valid.shape != shape or self.group.shape != shape[:1]:
            raise ValueError(
                "rewards and valid must be [B, T] and group [B]; "
                f"got {self.rewards.shape}, {self.valid.shape}, {self.group.shape}"
            )
        states = self.states
        if states is not None and (states.ndim != 3 or states.shape[:2] != shape or not states.shape[2]):
            raise ValueError(f"states must be [B, T, K >= 1] with [B, T] = {shape}; got {states.shape}")


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """All that a learner may see. Column l of every [R, L] array speaks of predicting `token_ids[:, l]`.

    Attributes:
        step: the step of the loop this batch belongs to.
        token_ids: [R, L] int64, right-padded.
        lengths: [R] int64, real tokens of each row.
        loss_mask: [R, L] bool, tokens sampled by the policy in a valid turn; column 0 is always False.
        advantages: [R, L] float32, the turn's advantage on each of its tokens, 0 elsewhere.
        behaviour_logprobs: [R, L] float32, nats, as the engine reported them, 0 outside the mask.
        turn_ids: [R, L] int64, a number unique to each trained turn of the batch, -1 outside the mask.
        group: [R] int64, the row's scenario group: mini-batches never split one.
        loss_tokens: trained tokens of the whole optimiser step over all micro-batches and ranks.
        loss_turns: trained turns of the whole optimiser step over all micro-batches and ranks.
        temperature: the sampling temperature the log probabilities refer to.
    """

    step: int
    token_ids: np.ndarray
    lengths: np.ndarray
    loss_mask: np.ndarray
    advantages: np.ndarray
    behaviour_logprobs: np.ndarray
    turn_ids: np.ndarray
    group: np.ndarray
    loss_tokens: int
    loss_turns: int
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class PolicyWeights:
    """A version of the policy on its way to the engines; the loop does not look into `source`."""

    version: int
    """0 for the initial weights, then one more after every update call."""
    source: object
    """What rollout/weights.py resolves: a bucket, or a reference to one."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one learner update did."""

    version: int
    metrics: Mapping[str, float]
