"""Tutoring: a third domain on the same three needs, with twelve scenarios of our own."""

from __future__ import annotations

from mica_ray.dialogue.domain import Axis, Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.role_prompts import actor_prompt, director_prompt, judge_prompt
from mica_ray.domains.stories.learners import LEARNERS
from mica_ray.domains.stories.story import scenarios_of

_PERSON = "a learner who is stuck"
_HELPER = "a tutor"

_AXES = (
    Axis(
        key="C",
        name="understanding of the idea",
        progress_levels=(
            "The learner understands the idea no better than before.",
            "Clears up one thing: a word, a rule, or the place where the thinking went off.",
            "Gives a picture or a question from which the learner can see the idea anew.",
        ),
        regress_levels=(
            "Confuses nothing.",
            "Misses what the learner asked about, or recites the textbook.",
            "Explains something wrongly, or confirms the learner's mistake.",
        ),
        regress_points=(0.0, -2.0, -4.0),
    ),
    Axis(
        key="A",
        name="confidence",
        progress_levels=(
            "The learner trusts themselves no more than before.",
            "Says that being stuck here is understandable, and names how it feels.",
            "Meets the fear behind the trouble, and shows real strength in what this learner did.",
        ),
        regress_levels=(
            "Does not discourage.",
            "Hurries on past the feeling, or praises without a reason.",
            "Makes the learner feel slow, calls the matter easy, or repeats a cheering formula.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
    Axis(
        key="P",
        name="taking the next step alone",
        progress_levels=(
            "The learner could do no more alone than before.",
            "Offers one small step that the learner can try, or points to one already taken.",
            "Makes what stops the learner smaller, so that they begin without being told the answer.",
        ),
        regress_levels=(
            "Leaves the work with the learner.",
            "Lectures on how one should study, or gives more tasks than can be done.",
            "Takes the work away by giving the answer, or calls the learner's own way worthless.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
)

TUTORING = Domain(
    name="tutoring",
    axes=_AXES,
    need_order=("A", "C", "P"),
    policy_prompt="You are a patient tutor. Answer in one or two short sentences.",
    actor_prompt=actor_prompt(person=_PERSON, helper=_HELPER),
    director_prompt=director_prompt(person=_PERSON, helper=_HELPER, axes=_AXES),
    judge_prompt=judge_prompt(person=_PERSON, helper=_HELPER, axes=_AXES),
    rules=ProgressRules(max_turns=10, check_from=4, tolerance=0.05, oscillation_window=None),
    shows_needs=True,
    scenarios=scenarios_of(LEARNERS, "tutoring"),
)
