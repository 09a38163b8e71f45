"""The form in which our own scenarios are written: a topic and three needs each.

`Story.scenario` converts it to the Scenario that the rest of the package uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mica_ray.types import AXES, Scenario, Split, State


@dataclass(frozen=True, slots=True)
class Story:
    """One user's story. The last three fields are the stages, in the order of needs (A, C, P)."""

    id: str
    """"<domain>-<category>-<dominant axis>-<number>", for example "es-work-a-01"."""
    split: Split
    topic: str
    """Subject of the story; occurs in the opening and in a stage, and in no other story."""
    initial_state: State
    """(C, A, P) in points, all negative, the dominant axis deepest."""
    persona: str
    """In the third person, for the roles only."""
    opening: str
    """First message: the topic and a feeling, without a request for advice."""
    feeling: str
    """Stage 1 (affective): a deeper feeling."""
    confusion: str
    """Stage 2 (cognitive): what the user misreads or does not understand."""
    barrier: str
    """Stage 3 (proactive): what keeps the user from acting."""

    def __post_init__(self) -> None:
        """Check the id's form, that the state agrees with it, and that the topic occurs."""
        parts = self.id.split("-")
        if len(parts) != 4 or parts[2].upper() not in AXES:
            raise ValueError(f"id must be <domain>-<category>-<c|a|p>-<number>, got {self.id!r}.")
        if max(self.initial_state) >= 0 or self.initial_state.count(min(self.initial_state)) != 1:
            raise ValueError(
                f"{self.id}: initial_state must be negative with one minimum, got {self.initial_state}."
            )
        if self.initial_state[AXES.index(self.dominant_axis)] != min(self.initial_state):
            raise ValueError(
                f"{self.id}: initial_state must have its minimum on the id's axis, got {self.initial_state}."
            )
        stages = " ".join((self.feeling, self.confusion, self.barrier)).lower()
        if self.topic.lower() not in self.opening.lower() or self.topic.lower() not in stages:
            raise ValueError(f"{self.id}: topic must be in the opening and in a stage, got {self.topic!r}.")

    @property
    def category(self) -> str:
        """The area of life, from the id."""
        return self.id.split("-")[1]

    @property
    def dominant_axis(self) -> str:
        """The axis key, from the id."""
        return self.id.split("-")[2].upper()

    def scenario(self, domain: str) -> Scenario:
        """Return this story as a scenario of the named domain."""
        return Scenario(
            id=self.id,
            domain=domain,
            category=self.category,
            dominant_axis=self.dominant_axis,
            persona=self.persona,
            opening=self.opening,
            initial_state=self.initial_state,
            stages=(self.feeling, self.confusion, self.barrier),
            split=self.split,
            topic=self.topic,
        )


def scenarios_of(stories: Iterable[Story], domain: str) -> tuple[Scenario, ...]:
    """Return the scenarios of the stories, in order."""
    return tuple(story.scenario(domain) for story in stories)
