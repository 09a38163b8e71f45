"""One dialogue read back from a file, whichever program wrote it: its numbers, texts and training values.

dialogue_files.py reads the files; frames.py lays dialogues out as DataFrames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mica_ray.credit.returns import discounted_returns
from mica_ray.files import JsonLine
from mica_ray.rewards import Rewards, zone_distance
from mica_ray.types import Stop

Format = Literal["run", "own", "emotion"]
"""run: a published EMPA run. own: a line written by `mica train` or `mica evaluate`. emotion: SAGE."""

DialogueOutcome = Literal["success", "failure", "open"]
"""open: a limit or the Director ended the dialogue; it neither succeeded nor failed."""


class RecordingError(ValueError):
    """A file of dialogues that cannot be used; the message names the file, the line and the field."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDialogue:
    """One recorded dialogue of T turns. Array values that the file does not record are NaN."""

    line: JsonLine
    """The JSON object it was read from."""
    form: Format
    model: str
    """Name in the record; else the folder of a `dialogues.jsonl`, or the file name without suffix."""
    scenario: str
    states: np.ndarray
    """[T+1, 3] points (C, A, P), P_0 first; a failed judgement leaves the state unchanged."""
    progress: np.ndarray
    """[T, 3] levels 0..2; 0 where not judged."""
    regress: np.ndarray
    """[T, 3] levels -2..0; 0 where not judged."""
    judged: np.ndarray
    """[T] bool, whether the turn's judgement is valid."""
    rewards: np.ndarray
    """[T] reward units, as the turns were trained on."""
    returns: np.ndarray
    """[T] reward units, as recorded in training."""
    advantages: np.ndarray
    """[T], dimensionless, as recorded in training."""
    reply_tokens: np.ndarray
    """[T] sampled tokens of each reply."""
    talk: tuple[tuple[str, str], ...] = ()
    """(user message, reply) of each turn; empty when the record contains no text."""
    ending: str = ""
    """Why it ended, as recorded; empty when the record does not say."""
    is_success: bool | None = None
    """None when the record does not say."""
    is_failed: bool = False
    """A simulator or an engine failed, so the dialogue is no evidence about the policy."""
    domain: str = ""
    category: str = ""
    difficulty: str = ""
    dominant_axis: str = ""
    """"C", "A" or "P"; empty in emotion files."""
    step: int | None = None
    """Step of the training loop; None outside training."""
    group: int | None = None
    """Number of its group within the step; None outside training."""
    sample: int | None = None
    """Number within its group; None when not recorded."""
    emotions: np.ndarray | None = None
    """[judged turns + 1] emotion values 0..100, the opening first; None outside the SAGE world."""
    final_emotion: float = float("nan")
    """Final emotion value as the record states it; NaN outside the SAGE world."""
    notes: tuple[str, ...] = ()
    """Irregularities in the record and how they were read, each starting with scenario and turn."""

    def __post_init__(self) -> None:
        """Check that the arrays have matching shapes and the states are finite."""
        if self.states.ndim != 2 or self.states.shape[1] != 3 or not len(self.states):
            raise ValueError(f"states must be [T+1, 3], got {list(self.states.shape)}.")
        per_turn = (self.num_turns,)
        _check_shapes((*per_turn, 3), progress=self.progress, regress=self.regress)
        _check_shapes(per_turn, judged=self.judged, rewards=self.rewards, returns=self.returns)
        _check_shapes(per_turn, advantages=self.advantages, reply_tokens=self.reply_tokens)
        if not np.isfinite(self.states).all():
            raise ValueError(f"states must be finite, got {self.states.tolist()}.")

    @property
    def num_turns(self) -> int:
        """T."""
        return len(self.states) - 1

    @property
    def is_played(self) -> bool:
        """Whether the dialogue did not fail and has a turn."""
        return not self.is_failed and self.num_turns > 0

    @property
    def is_usable(self) -> bool:
        """Whether the dialogue did not fail and has a judged turn."""
        return self.is_played and bool(self.judged.any())

    @property
    def id(self) -> str:
        """STEP-GROUP-SAMPLE, unique in its run."""
        return f"{self.step}-{self.group}-{self.sample}"

    @property
    def outcome(self) -> DialogueOutcome:
        """How the dialogue ended."""
        if self.is_success:
            return "success"
        failures = (Stop.COLLAPSE, Stop.STALL, Stop.OSCILLATION)
        return "failure" if self.ending in failures or "failure" in self.ending.lower() else "open"

    @property
    def turns(self) -> Sequence[Mapping[str, Any]]:
        """The JSON turns of one of our own dialogues, as transcript.py describes them."""
        return self.line.fields["turns"]

    @property
    def is_trained(self) -> bool:
        """Whether the record has the reward of any turn."""
        return bool(np.isfinite(self.rewards).any())

    @property
    def distances(self) -> np.ndarray:
        """D_t [T+1], points: the zone distance of every state."""
        return zone_distance(self.states)

    @property
    def turn_rewards(self) -> np.ndarray:
        """Return r_t [T], NaN where not judged: as recorded, or the incremental distance reward (IDR)."""
        if not self.is_trained:
            return np.where(self.judged, Rewards().of_path(self.states), np.nan)
        # Adding 0 turns a recorded -0, which would be printed with its sign, into 0.
        return np.where(self.judged, np.nan_to_num(self.rewards) + 0.0, np.nan)

    def discounted_returns(self, gamma: float) -> np.ndarray:
        """Return G_t = sum_{s >= t} gamma^(s-t) r_s [T] of `turn_rewards`, NaN where not judged."""
        rewards = np.nan_to_num(self.turn_rewards)[None]
        returns = discounted_returns(rewards, self.judged[None], gamma=gamma)[0]
        return np.where(self.judged, returns, np.nan)


def _check_shapes(expected: tuple[int, ...], **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} must be {list(expected)} to match the states, got {list(array.shape)}.")


def by_model(dialogues: Sequence[RecordedDialogue]) -> dict[str, list[RecordedDialogue]]:
    """Return the dialogues of each model, in the order in which the models first appear."""
    groups: dict[str, list[RecordedDialogue]] = {}
    for dialogue in dialogues:
        groups.setdefault(dialogue.model, []).append(dialogue)
    return groups
