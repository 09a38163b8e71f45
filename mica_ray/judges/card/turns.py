"""The recorded turns that a judge is asked about: spread over dialogues and over their length.

presentations.py turns each of them into several questions.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.types import Scenario, State

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_MIN_CHINESE_FRACTION = 0.2
"""Share of Chinese characters above which a dialogue is in Chinese: they are shorter than English words."""
_TRIGRAM = 3
_OTHER = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTurn:
    """One recorded turn with everything a judge sees."""

    id: str
    """LINE:TURN:DIGEST, turns from 1; the digest is of everything the judge sees."""
    case: str
    """Line of the dialogue; the bootstrap resamples dialogues."""
    scenario: Scenario
    dialogue: tuple[SpokenTurn, ...]
    """Oldest first; the last reply is the one to score."""
    state: State
    """P_{t-1}, points."""
    recorded: np.ndarray
    """[3] v_t of the recorded judge, points; NaN where the record has none."""
    num_turns: int
    """Turns of the whole dialogue."""

    @property
    def number(self) -> int:
        """Number of the turn in its dialogue, from 1."""
        return len(self.dialogue)

    @property
    def user(self) -> str:
        """The message that the reply answers."""
        return self.dialogue[-1]["user"]

    @property
    def reply(self) -> str:
        """The reply to score."""
        return self.dialogue[-1]["reply"] or ""

    @property
    def echo(self) -> float:
        """Share of the reply that repeats the message, 0 to 1."""
        return echo_share(self.user, self.reply)


def choose_turns(
    dialogues: Sequence[RecordedDialogue],
    domain: Domain,
    *,
    num_turns: int,
    seed: int,
    scenarios: Sequence[Scenario] = (),
) -> tuple[RecordedTurn, ...]:
    """Choose judged turns with texts, at random but spread evenly.

    Dialogues are drawn in turn, so that each contributes as many turns as any other or one less. The place in
    the dialogue is stratified: of n turns, one is in each n-th of its dialogue.

    Args:
        dialogues: the recorded dialogues.
        domain: its levels decide which recorded values can be compared.
        num_turns: turns to choose; all of them if there are fewer.
        seed: seed of the choice.
        scenarios: texts of the simulated users, by id; an unknown one has an empty persona.

    Raises:
        ValueError: num_turns < 1, or no dialogue has a judged turn with texts.
    """
    if num_turns < 1:
        raise ValueError(f"num_turns must be >= 1, got {num_turns}.")
    places = [_eligible(dialogue) for dialogue in dialogues]
    usable = [number for number, found in enumerate(places) if found]
    if not usable:
        raise ValueError(
            "No dialogue has a judged turn with its texts. Name a file with the messages and replies."
        )
    by_id = {scenario.id: scenario for scenario in scenarios}
    draw = random.Random(seed)
    draw.shuffle(usable)
    wanted = min(num_turns, sum(len(places[number]) for number in usable))
    strata = draw.sample(range(wanted), wanted)
    chosen: list[tuple[int, int]] = []
    for count in range(sum(len(found) for found in places) * len(usable)):
        if len(chosen) == wanted:
            break
        number = usable[count % len(usable)]
        if places[number]:
            position = (strata[len(chosen)] + draw.random()) / wanted
            turn = places[number].pop(min(int(position * len(places[number])), len(places[number]) - 1))
            chosen.append((number, turn))
    levels = point_levels(domain)
    return tuple(
        _recorded_turn(dialogues[number], domain, turn, levels, by_id) for number, turn in sorted(chosen)
    )


def point_levels(domain: Domain) -> tuple[float, ...]:
    """Return all points that a judgement can have on any axis of a domain, ascending."""
    return tuple(
        sorted(
            {
                axis.points(progress, regress)
                for axis in domain.axes
                for progress in (0, 1, 2)
                for regress in (0, -1, -2)
            }
        )
    )


def echo_share(user: str, reply: str) -> float:
    """Return the share of the reply's character trigrams that occur in the message, 0 to 1.

    Case, punctuation and white space do not count, so that it works in every language.

    >>> echo_share("I lost my job.", "You lost my job!")      # 7 of 10 trigrams occur: not you, oul, ulo
    0.7
    """
    said, grams = _trigrams(user), _trigrams(reply)
    return sum(gram in said for gram in grams) / len(grams) if grams else 0.0


def _trigrams(text: str) -> list[str]:
    letters = _OTHER.sub("", text.casefold())
    return [letters[start : start + _TRIGRAM] for start in range(len(letters) - _TRIGRAM + 1)]


def language_of(texts: Sequence[str]) -> str:
    """Return "zh" for a Chinese dialogue, else "en"."""
    letters = _OTHER.sub("", "".join(texts))
    return "zh" if len(_CHINESE.findall(letters)) > _MIN_CHINESE_FRACTION * len(letters) else "en"


def _eligible(dialogue: RecordedDialogue) -> list[int]:
    """Return the numbers, from 0, of the judged turns up to which all texts are recorded."""
    if dialogue.is_failed:
        return []
    spoken = dialogue.talk[: dialogue.num_turns]
    complete = next((turn for turn, pair in enumerate(spoken) if not all(pair)), len(spoken))
    return [turn for turn in range(complete) if dialogue.judged[turn]]


def _recorded_turn(
    dialogue: RecordedDialogue,
    domain: Domain,
    turn: int,
    levels: Sequence[float],
    by_id: Mapping[str, Scenario],
) -> RecordedTurn:
    moved = dialogue.states[turn + 1] - dialogue.states[turn]
    case = f"{dialogue.line.number}"
    scenario = by_id.get(dialogue.scenario) or _unknown_person(dialogue, domain)
    spoken = tuple(SpokenTurn(user=user, reply=reply) for user, reply in dialogue.talk[: turn + 1])
    state = _state(dialogue.states[turn])
    seen = repr((scenario, spoken, state)).encode()
    return RecordedTurn(
        id=f"{case}:{turn + 1}:{hashlib.blake2b(seen, digest_size=4).hexdigest()}",
        case=case,
        scenario=scenario,
        dialogue=spoken,
        state=state,
        recorded=np.where(np.isin(moved, levels), moved, np.nan),
        num_turns=dialogue.num_turns,
    )


def _unknown_person(dialogue: RecordedDialogue, domain: Domain) -> Scenario:
    """Return the scenario of a dialogue whose card or story is not known."""
    return Scenario(
        id=dialogue.scenario,
        domain=domain.name,
        category=dialogue.category,
        dominant_axis=dialogue.dominant_axis or "A",
        persona="",
        opening=dialogue.talk[0][0],
        initial_state=_state(dialogue.states[0]),
        stages=(),
        split="test",
        language=language_of([text for pair in dialogue.talk for text in pair]),
    )


def _state(values: np.ndarray) -> State:
    cognitive, affective, proactive = (float(value) for value in values)
    return (cognitive, affective, proactive)
