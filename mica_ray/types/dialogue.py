"""The values of a dialogue: scenario, judgement, generation, turn and trajectory.

The arrays that training makes of trajectories are in types/training.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Literal, TypedDict, get_args

import numpy as np

from mica_ray.checks import at_least, within
from mica_ray.types.language import primary_language
from mica_ray.valid_text import valid_text

State = tuple[float, float, float]
"""A need state (C, A, P) in points. The origin means "needs met", negative values are a deficit."""

AXES = ("C", "A", "P")
"""Keys of the axes of a need state, in its order: cognitive, affective, proactive."""

RoleName = Literal["actor", "director", "judge"]
"""A role of the simulated world. The policy is not one of them."""
ROLES: tuple[RoleName, ...] = get_args(RoleName)

Split = Literal["train", "valid", "test"]

FinishReason = Literal["stop", "length", "content_filter"]
"""Why a model stopped writing: it was done, its token limit, or its provider's filter."""


class Message(TypedDict):
    """One chat message in the form every chat API accepts.

    >>> Message(role="user", content="I failed the exam.")
    {'role': 'user', 'content': 'I failed the exam.'}
    """

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. The defaults are the paper's: temperature 1, no truncation.

    >>> Sampling(temperature=-1)
    Traceback (most recent call last):
    ValueError: temperature must be >= 0, got -1.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64
    """Maximum number of tokens of one reply."""
    seed: int | None = None
    """Equal seed, model and prompt lead to the same reply. None: unseeded."""
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that the reply contains; for evaluations only."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(0, temperature=self.temperature)
        within(-2, 2, presence_penalty=self.presence_penalty)
        at_least(1, max_tokens=self.max_tokens)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who the simulated user is and where the dialogue starts. Every text becomes valid Unicode.

    >>> exam = Scenario(
    ...     id="exam-01", domain="tutoring", category="school", dominant_axis="A", persona="A tired student.",
    ...     opening="I failed the exam.", initial_state=(-3.0, -6.0, -3.0), stages=("I studied for weeks.",),
    ...     split="train",
    ... )
    >>> exam.initial_state[AXES.index(exam.dominant_axis)]
    -6.0
    """

    id: str
    domain: str
    category: str
    dominant_axis: str
    """Key of the axis this user needs most: "C", "A" or "P"."""
    persona: str
    """Who the user is and how they speak, in the third person. Only the roles see it, never the policy."""
    opening: str
    """The user's first message. Empty: the Actor writes it."""
    initial_state: State
    """P_0 in points, every component <= 0."""
    stages: tuple[str, ...]
    """Story fragments in the user's own voice, in the order in which the Director may reveal them."""
    split: Split
    language: str = "en"
    """Primary subtag: "en", "zh"; another form of a tag is converted."""
    topic: str = ""
    """Subject of the story in the user's words ("my sister's wedding"). Empty: unknown."""
    difficulty: str = ""
    """Difficulty that the benchmark assigns to this user. Empty: unknown."""
    priorities: tuple[str, ...] = ()
    """How much each need weighs for this user, in the order of AXES: "high", "mid", "low", or "" if unknown.
    Empty: the domain's."""

    def __post_init__(self) -> None:
        """Convert the texts and the language, wherever the scenario comes from."""
        for name in (part.name for part in fields(self)):
            value: object = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, valid_text(value))
        for name in ("stages", "priorities"):
            object.__setattr__(self, name, tuple(valid_text(text) for text in getattr(self, name)))
        object.__setattr__(self, "language", primary_language(self.language))


class Status(StrEnum):
    """How one call of a role ended.

    The first three values are answers; the others are failures and never count as scores.

    >>> Status.REPAIRED.failure_kind is None, Status.INVALID.failure_kind, Status.TIMED_OUT.failure_kind
    (True, 'data', 'infrastructure')
    """

    OK = "ok"
    RETRIED = "retried"
    REPAIRED = "repaired"
    INVALID = "invalid"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"

    @property
    def failure_kind(self) -> Literal["data", "infrastructure"] | None:
        """What failed, the model's text ("data") or the call; None for an answer."""
        if self is Status.INVALID:
            return "data"
        return "infrastructure" if self in (Status.TIMED_OUT, Status.ABANDONED) else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's scores of one reply.

    `delta is None` means that the judge failed. It is not a score of zero.

    >>> helped = Judgement(progress=(0, 2, 0), regress=(0, 0, 0), delta=(0.0, 3.0, 0.0))
    >>> failed = Judgement.failed(Status.TIMED_OUT, "no answer within 60 s")
    >>> helped.is_valid, failed.is_valid
    (True, False)
    """

    progress: tuple[int, int, int] | None
    """Levels 0, 1, 2 per axis (C, A, P)."""
    regress: tuple[int, int, int] | None
    """Levels 0, -1, -2 per axis (C, A, P)."""
    delta: State | None
    """v_t, the change of the need state in points."""
    evidence: Mapping[str, str] = field(default_factory=dict[str, str])
    """The judge's text for each field of the rubric, for reports."""
    status: Status = Status.OK
    error: str | None = None
    """Why the judgement failed; None for a valid one."""
    unfound_evidence: int = 0
    """Evidence texts, of levels other than 0, that occur nowhere in the dialogue."""
    finish_reason: FinishReason | None = None
    """Why the judge stopped writing its last answer; None if unknown."""

    @property
    def is_valid(self) -> bool:
        """Whether the judgement is a score."""
        return self.delta is not None

    @classmethod
    def failed(cls, status: Status, error: str, *, finish_reason: FinishReason | None = None) -> Judgement:
        """Build the judgement of a failed call of the judge."""
        unscored = cls(progress=None, regress=None, delta=None)
        return replace(unscored, status=status, error=error, finish_reason=finish_reason)


@dataclass(frozen=True, slots=True)
class Generation:
    """One reply of the policy as sampled tokens. Training never re-tokenizes them.

    >>> reply = Generation(
    ...     prompt_ids=(10, 11), token_ids=(20, 21), logprobs=(-0.5, -1.0), text="That must hurt.",
    ...     finish_reason="stop", policy_version=3,
    ... )
    >>> sum(reply.logprobs)
    -1.5
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """Sampled tokens, including the end-of-turn token if it was sampled."""
    logprobs: tuple[float, ...]
    """Log probability in nats of each sampled token under the sampling policy, temperature applied."""
    text: str
    finish_reason: Literal["stop", "length"]
    policy_version: int
    """Version of the weights that sampled the reply."""


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """Status of the Director's or the Actor's call in a turn. `Judgement` has the judge's.

    >>> RoleAnswer("director", Status.INVALID, "the answer is not JSON").status.failure_kind
    'data'
    """

    role: Literal["director", "actor"]
    status: Status
    error: str | None = None
    """Why the call failed; None for an answer."""
    finish_reason: FinishReason | None = None
    """Why the model stopped writing its last answer; None if unknown."""
    is_early_end: bool = False
    """Whether the Director ended a dialogue whose user's needs are not met. The dialogue continues."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the user speaks, the policy replies, the judge scores the reply.

    >>> helped = Judgement(progress=(0, 2, 0), regress=(0, 0, 0), delta=(0.0, 3.0, 0.0))
    >>> turn = Turn(0, "I failed the exam.", "That must hurt.", helped, state_after=(-3.0, -3.0, -3.0))
    >>> before = np.subtract(turn.state_after, turn.judgement.delta)    # P_{t-1} = P_t - v_t
    >>> before.tolist()
    [-3.0, -6.0, -3.0]
    """

    index: int
    user: str
    reply: str
    """What the policy said, without its thoughts; empty if it said nothing."""
    judgement: Judgement
    state_after: State
    """P_t in points; P_{t-1} if the judgement failed."""
    generation: Generation | None = None
    """None when the policy is a text-only model."""
    guidance: str | None = None
    """The Director's guidance to the Actor for this user message; None if there was none."""
    answers: tuple[RoleAnswer, ...] = ()
    """Status of each role called after the judgement, in order of the calls."""
    finish_reason: FinishReason | None = None
    """Why the policy stopped writing; None if unknown."""
    is_silent: bool = False
    """Whether the policy said nothing, as in an unfinished thought, so that nobody was asked to judge it."""


class Stop(StrEnum):
    """Why a dialogue ended."""

    SUCCESS = "success"
    COLLAPSE = "collapse"
    STALL = "stall"
    OSCILLATION = "oscillation"
    """The user moved and is back where they were many turns ago."""
    ENDED = "ended"
    """The Director ended it, in recordings of earlier versions. Now the rules decide about every ending."""
    LIMIT = "limit"
    """Truncated: turn or context limit."""
    FAILED = "failed"
    """A role or the policy's engine failed; the dialogue is not evidence about the policy."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one dialogue.

    >>> exam = Scenario(
    ...     id="exam-01", domain="tutoring", category="school", dominant_axis="A", persona="A tired student.",
    ...     opening="I failed.", initial_state=(-3.0, -6.0, -3.0), stages=(), split="train",
    ... )
    >>> helped = Judgement(progress=(0, 2, 0), regress=(0, 0, 0), delta=(0.0, 3.0, 0.0))
    >>> turn = Turn(0, "I failed.", "That must hurt.", helped, state_after=(-3.0, -3.0, -3.0))
    >>> Trajectory(exam, group=0, sample=0, turns=(turn,), stop=Stop.LIMIT).states
    array([[-3., -6., -3.],
           [-3., -3., -3.]])
    """

    scenario: Scenario
    group: int
    """Equal for the dialogues of one scenario in one step."""
    sample: int
    """0..N-1 within the group."""
    turns: tuple[Turn, ...]
    stop: Stop
    error: str | None = None
    """Why the dialogue failed; None unless `stop` is FAILED."""
    director_failures: int = 0
    """Number of failed calls of the Director. The dialogue continues without its guidance."""

    @property
    def states(self) -> np.ndarray:
        """The path of need states, [T+1, K] in points, P_0 first."""
        path: Sequence[State] = [self.scenario.initial_state, *(turn.state_after for turn in self.turns)]
        return np.asarray(path, dtype=np.float64)

    @property
    def is_success(self) -> bool:
        """Whether the dialogue ended because the user's needs were met."""
        return self.stop is Stop.SUCCESS
