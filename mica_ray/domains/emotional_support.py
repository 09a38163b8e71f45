"""Emotional support: the paper's domain, with 90 scenarios of our own in six areas of life.

The scenarios are in domains/stories/, one file per area; the prompts are built by domains/role_prompts.py.
"""

from __future__ import annotations

from mica_ray.dialogue.domain import Axis, Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.role_prompts import role_prompts
from mica_ray.domains.role_prompts_zh import SUPPORT_PROMPTS_ZH
from mica_ray.domains.stories.family import FAMILY
from mica_ray.domains.stories.health import HEALTH
from mica_ray.domains.stories.loneliness import LONELINESS
from mica_ray.domains.stories.love import LOVE
from mica_ray.domains.stories.story import Story, scenarios_of
from mica_ray.domains.stories.study import STUDY
from mica_ray.domains.stories.work import WORK

STORIES: tuple[Story, ...] = (*WORK, *STUDY, *FAMILY, *LOVE, *HEALTH, *LONELINESS)

_PERSON = "a person who is going through something hard"
_HELPER = "a listener"

_AXES = (
    Axis(
        key="C",
        name="cognitive clarity",
        progress_levels=(
            "The person understands their situation no better than before.",
            "Sorts out one thing: names what is mixed up, separates what happened from what is feared, or"
            " asks a question that makes the person look closer.",
            "Shows the situation in a new light that fits what was said, and loosens the old one.",
        ),
        regress_levels=(
            "Takes nothing away from the person's understanding.",
            "Passes over what was said, or explains with empty general sentences.",
            "Gets it wrong: mistakes what happened or what it means to them, or confirms a harmful reading.",
        ),
        regress_points=(0.0, -2.0, -4.0),
    ),
    Axis(
        key="A",
        name="emotional validation",
        progress_levels=(
            "The feeling is not met.",
            "Names the feeling that was said and lets it be right to have it.",
            "Reaches a feeling that was not put into words, and stays with it in terms of this very story.",
        ),
        regress_levels=(
            "Does not hurt.",
            "Misses the tone: quick, cheerful, or polite without being touched by what was said.",
            "Judges the feeling or plays it down, or repeats a comforting formula.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
    Axis(
        key="P",
        name="agency",
        progress_levels=(
            "The person feels no more able to act.",
            "Points to something the person can do or already did well, or offers one concrete small step.",
            "Takes hold of what stands in the way and makes it smaller; the step becomes the person's own.",
        ),
        regress_levels=(
            "Leaves the person's strength as it is.",
            "Lectures, or hands out tasks that are too much for the person.",
            "Treats what the person wants or tried as worthless, or takes the decision away.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
)

SUPPORT_PROMPTS_EN = role_prompts(
    person=_PERSON,
    helper=_HELPER,
    axes=_AXES,
    policy_prompt="You are a kind listener. Answer in one or two short sentences.",
)
"""English prompts for domains of emotional support in another language."""

EMOTIONAL_SUPPORT = Domain(
    name="emotional_support",
    axes=_AXES,
    need_order=("A", "C", "P"),
    policy_prompt=SUPPORT_PROMPTS_EN.policy_prompt,
    actor_prompt=SUPPORT_PROMPTS_EN.actor_prompt,
    director_prompt=SUPPORT_PROMPTS_EN.director_prompt,
    judge_prompt=SUPPORT_PROMPTS_EN.judge_prompt,
    rules=ProgressRules(max_turns=12, check_from=4, tolerance=0.05, oscillation_window=None),
    shows_needs=True,
    scenarios=scenarios_of(STORIES, "emotional_support"),
    translations=(SUPPORT_PROMPTS_ZH,),
)
