"""A domain as a value: axes with rubric, prompts, rules and scenarios."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.dialogue.potential import Potential
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.types import AXES, Scenario, Split, primary_language

GRADES = ("high", "mid", "low")
"""Weights that a need can have for a user, in descending order."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the need state and how the judge scores it.

    The points are the paper's (EMPA, arXiv 2603.00552): progress level 0/1/2 gives 0/+1/+3; regress level
    0/-1/-2 gives 0/-2/-4 on C and 0/-2/-5 on A and P. Progress and regress are scored separately and added.
    """

    key: str
    """"C", "A" or "P"."""
    name: str
    """Name of the axis in this domain."""
    progress_levels: tuple[str, str, str]
    """Rubric text of progress levels 0, 1, 2."""
    regress_levels: tuple[str, str, str]
    """Rubric text of regress levels 0, -1, -2."""
    regress_points: tuple[float, float, float]
    """Points of regress levels 0, -1, -2."""
    progress_points: tuple[float, float, float] = (0.0, 1.0, 3.0)
    """Points of progress levels 0, 1, 2."""

    def points(self, progress: int, regress: int) -> float:
        """Return v on this axis for a pair of levels, in points.

        Raises:
            ValueError: a level is outside 0..2 or -2..0.
        """
        if progress not in (0, 1, 2) or regress not in (0, -1, -2):
            raise ValueError(
                f"axis {self.key}: levels must be in 0..2 and -2..0, got {progress} and {regress}."
            )
        return self.progress_points[progress] + self.regress_points[-regress]


@dataclass(frozen=True, slots=True)
class RolePrompts:
    """Prompts of policy and roles in one language."""

    language: str
    """Language code as in `Scenario.language`: "en", "zh"."""
    policy_prompt: str
    actor_prompt: str
    director_prompt: str
    judge_prompt: str
    axis_names: tuple[str, str, str]
    """Names of the axes C, A, P in the case file."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of dialogue as plain values, so that a new domain is one new file."""

    name: str
    axes: tuple[Axis, Axis, Axis]
    """In the order C, A, P of every state vector."""
    need_order: tuple[str, str, str]
    """Axis keys from the need that weighs most: the priorities of scenarios that have none of their own, and
    the order in which needs open in the embedded world."""
    policy_prompt: str
    """System prompt of the policy."""
    actor_prompt: str
    director_prompt: str
    """Empty for a domain without a Director."""
    judge_prompt: str
    rules: ProgressRules
    scenarios: tuple[Scenario, ...]
    translations: tuple[RolePrompts, ...] = ()
    """Prompts in other languages, at most one each. Other languages use the domain's own prompts."""
    potential: Potential | None = None
    """Scalar that the judge changes in place of levels on three axes; None for the three axes."""
    shows_needs: bool = False
    """Whether all roles see P_0 and `need_order`, which the rules of the embedded world compute with. In EMPA
    only the Director sees numbers."""

    def __post_init__(self) -> None:
        """Check that no two translations have the same language."""
        languages = [primary_language(prompts.language) for prompts in self.translations]
        if len(set(languages)) != len(languages):
            raise ValueError(f"translations must have different languages, got {', '.join(languages)}.")

    def prompts(self, language: str) -> RolePrompts:
        """Return the prompts for a language: its translation, or else the domain's own prompts."""
        language = primary_language(language)
        for translation in self.translations:
            if primary_language(translation.language) == language:
                return translation
        return RolePrompts(
            language=language,
            policy_prompt=self.policy_prompt,
            actor_prompt=self.actor_prompt,
            director_prompt=self.director_prompt,
            judge_prompt=self.judge_prompt,
            axis_names=(self.axes[0].name, self.axes[1].name, self.axes[2].name),
        )

    def priorities(self, scenario: Scenario) -> dict[str, str]:
        """Return the weight of each need for a user by axis key; the scenario's, or else the domain's."""
        if scenario.priorities:
            return {key: grade for key, grade in zip(AXES, scenario.priorities, strict=True) if grade}
        return dict(zip(self.need_order, GRADES, strict=True))

    def split(self, split: Split) -> tuple[Scenario, ...]:
        """Return the scenarios of one split, in file order."""
        return tuple(scenario for scenario in self.scenarios if scenario.split == split)
