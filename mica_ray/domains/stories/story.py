"""A story: how the scenarios of our own domains are written down, one topic and three needs each.

Not a second scenario type: `Story.scenario` gives the Scenario that everything else reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mica_ray.types import AXES, Scenario, Split, State


@dataclass(frozen=True, slots=True)
class Story:
    """What one user brings. The last three fields are the stages, in the order of needs (A, C, P)."""

    id: str
    """"<domain>-<category>-<dominant axis>-<number>", for example "es-work-a-01"."""
    split: Split
    topic: str
    """What the story is about; stands in the opening and in a stage, and no other story has it."""
    initial_state: State
    """(C, A, P) in points, all negative, the dominant axis deepest."""
    persona: str
    """Third person, for the roles alone."""
    opening: str
    """First message: the topic and a feeling, no request for advice."""
    feeling: str
    """Stage 1 (affective): the feeling goes deeper."""
    confusion: str
    """Stage 2 (cognitive): what the user misreads or does not understand."""
    barrier: str
    """Stage 3 (proactive): what keeps the user from acting."""

    def __post_init__(self) -> None:
        """Refuse an id of another form, a state that contradicts it and a topic nobody speaks of."""
        parts = self.id.split("-")
        if len(parts) != 4 or parts[2].upper() not in AXES:
            raise ValueError(f"id must be <domain>-<category>-<c|a|p>-<number>; got {self.id!r}")
        if max(self.initial_state) >= 0 or self.initial_state.count(min(self.initial_state)) != 1:
            raise ValueError(
                f"{self.id}: initial_state must be negative with one deepest; got {self.initial_state}"
            )
        if self.initial_state[AXES.index(self.dominant_axis)] != min(self.initial_state):
            raise ValueError(
                f"{self.id}: initial_state must be deepest on the id's axis; got {self.initial_state}"
            )
        stages = " ".join((self.feeling, self.confusion, self.barrier)).lower()
        if self.topic.lower() not in self.opening.lower() or self.topic.lower() not in stages:
            raise ValueError(f"{self.id}: topic must stand in the opening and in a stage; got {self.topic!r}")

    @property
    def category(self) -> str:
        """The area of life, read from the id."""
        return self.id.split("-")[1]

    @property
    def dominant_axis(self) -> str:
        """The axis key, read from the id."""
        return self.id.split("-")[2].upper()

    def scenario(self, domain: str) -> Scenario:
        """Give the scenario of this story in the named domain."""
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
    """Give the scenarios of the stories, in order."""
    return tuple(story.scenario(domain) for story in stories)
