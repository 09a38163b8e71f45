"""Customer support: a second domain with the same three needs and twelve scenarios."""

from __future__ import annotations

from mica_ray.dialogue.domain import Axis, Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.role_prompts import actor_prompt, director_prompt, judge_prompt
from mica_ray.domains.stories.customers import CUSTOMERS
from mica_ray.domains.stories.story import scenarios_of

_PERSON = "a customer for whom something went wrong"
_HELPER = "a support agent"

_AXES = (
    Axis(
        key="C",
        name="clarity about the problem",
        progress_levels=(
            "The customer knows no more about the problem than before.",
            "Makes one thing clear: what happened, why, or which question has to be answered first.",
            "Shows what really lies behind the trouble, in a way that fits all that the customer told.",
        ),
        regress_levels=(
            "Confuses nothing.",
            "Passes over what was told, or answers with a general text.",
            "States something wrong about the case, or puts the fault on the customer without a reason.",
        ),
        regress_points=(0.0, -2.0, -4.0),
    ),
    Axis(
        key="A",
        name="feeling taken seriously",
        progress_levels=(
            "The customer feels like a number.",
            "Says what the trouble costs this customer and that the anger or worry is fair.",
            "Sees what is at stake behind the complaint and owns the failure towards this customer.",
        ),
        regress_levels=(
            "Does not offend.",
            "Sounds rushed or scripted, or is friendly past the point.",
            "Doubts or plays down the trouble, or repeats the same stock apology.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
    Axis(
        key="P",
        name="a way forward",
        progress_levels=(
            "Nothing can be done that could not be done before.",
            "Names one step that fits the case: who does what next.",
            "Removes what held the customer up, so that the next step is small, sure and theirs.",
        ),
        regress_levels=(
            "Closes no way.",
            "Sends the customer through steps already tried, or lists rules.",
            "Shuts the case, or refuses what the customer needs without another way.",
        ),
        regress_points=(0.0, -2.0, -5.0),
    ),
)

CUSTOMER_SUPPORT = Domain(
    name="customer_support",
    axes=_AXES,
    need_order=("A", "C", "P"),
    policy_prompt="You are a helpful support agent. Answer in one or two short sentences.",
    actor_prompt=actor_prompt(person=_PERSON, helper=_HELPER),
    director_prompt=director_prompt(person=_PERSON, helper=_HELPER, axes=_AXES),
    judge_prompt=judge_prompt(person=_PERSON, helper=_HELPER, axes=_AXES),
    rules=ProgressRules(max_turns=10, check_from=4, tolerance=0.05, oscillation_window=None),
    shows_needs=True,
    scenarios=scenarios_of(CUSTOMERS, "customer_support"),
)
