"""A domain as a value: axes and rubric, prompts, rules, scenarios. Variants are other values."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.dialogue.potential import Potential
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.types import Scenario, Split


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the need state and how the judge scores it.

    The points are the paper's (EMPA, arXiv 2603.00552): progress level 0/1/2 gives 0/+1/+3; regress level
    0/-1/-2 gives 0/-2/-4 on C and 0/-2/-5 on A and P. Progress and regress are scored apart and added.
    """

    key: str
    """"C", "A" or "P"."""
    name: str
    """What the axis is called in this domain."""
    progress_levels: tuple[str, str, str]
    """What a reply does at progress 0, 1, 2."""
    regress_levels: tuple[str, str, str]
    """What a reply does at regress 0, -1, -2."""
    regress_points: tuple[float, float, float]
    """Points of regress 0, -1, -2."""
    progress_points: tuple[float, float, float] = (0.0, 1.0, 3.0)
    """Points of progress 0, 1, 2."""

    def points(self, progress: int, regress: int) -> float:
        """Give v on this axis for a pair of levels, in points.

        Raises:
            ValueError: a level outside 0..2 or -2..0.
        """
        if progress not in (0, 1, 2) or regress not in (0, -1, -2):
            raise ValueError(f"axis {self.key}: levels must be 0..2 and -2..0; got {progress} and {regress}")
        return self.progress_points[progress] + self.regress_points[-regress]


@dataclass(frozen=True, slots=True)
class RolePrompts:
    """What policy and roles are told in one language."""

    language: str
    """As `Scenario.language` writes it: "en", "zh"."""
    policy_prompt: str
    actor_prompt: str
    director_prompt: str
    judge_prompt: str
    axis_names: tuple[str, str, str]
    """What the axes C, A, P are called in the case file."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Everything that makes one kind of dialogue: plain data, so that a new domain is one new file."""

    name: str
    axes: tuple[Axis, Axis, Axis]
    """In the order C, A, P of every state vector."""
    need_order: tuple[str, str, str]
    """Axis keys in the order in which needs open; the embedded world plays by it, LLM roles are told it."""
    policy_prompt: str
    """System prompt of the policy in training."""
    actor_prompt: str
    director_prompt: str
    """Empty for a world without a Director."""
    judge_prompt: str
    rules: ProgressRules
    scenarios: tuple[Scenario, ...]
    translations: tuple[RolePrompts, ...] = ()
    """The prompts in other languages, one of each; a language without any gets the domain's own."""
    potential: Potential | None = None
    """The scalar that the judge reads instead of levels; None for the three axes."""

    def __post_init__(self) -> None:
        """Refuse two translations into one language."""
        languages = [prompts.language for prompts in self.translations]
        if len(set(languages)) != len(languages):
            raise ValueError(f"translations must be of one language each; got {', '.join(languages)}")

    def prompts(self, language: str) -> RolePrompts:
        """Give the prompts for a scenario of a language: the translation, or the domain's own."""
        for translation in self.translations:
            if translation.language == language:
                return translation
        return RolePrompts(
            language=language,
            policy_prompt=self.policy_prompt,
            actor_prompt=self.actor_prompt,
            director_prompt=self.director_prompt,
            judge_prompt=self.judge_prompt,
            axis_names=(self.axes[0].name, self.axes[1].name, self.axes[2].name),
        )

    def split(self, split: Split) -> tuple[Scenario, ...]:
        """Give the scenarios of one split, in file order."""
        return tuple(scenario for scenario in self.scenarios if scenario.split == split)
