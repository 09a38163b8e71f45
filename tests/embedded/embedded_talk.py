"""Dialogues in the embedded world: a rule replies, in the real environment with the real roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mica_ray.chat.model import ChatModel, ChatReply, JsonSchema
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.embedded.world import replay, start
from mica_ray.rewards import Rewards
from mica_ray.types import Message, Sampling, Scenario, Stop, Trajectory

Rule = Callable[[Scenario, Sequence[str], Sequence[str]], str]
"""(scenario, the user's messages, the replies so far) -> the next reply."""

SAMPLING = Sampling(max_tokens=128)
TESTS = EMOTIONAL_SUPPORT.split("test")
NEED_ORDER = [("C", "A", "P").index(key) for key in EMOTIONAL_SUPPORT.need_order]

LINES: dict[str, tuple[str, ...]] = {
    "acknowledge": (
        "No wonder you are worn out when {topic} is always there.",
        "{Topic} sounds painful, and you live with it every day.",
        "I can hear how heavy all of this about {topic} is.",
        "Of course it hurts when so much hangs on {topic}.",
        "It makes sense that you feel sad after what happened with {topic}.",
        "Anyone would be shaken by {topic} in your place.",
        "You seem so tired of holding {topic} alone.",
        "To go through {topic} like this must be lonely.",
        "I see that {topic} weighs on you day and night.",
        "It is understandable that you are afraid when people bring up {topic}.",
    ),
    "explore": (
        "What does {topic} mean to you?",
        "How did it begin, this worry over {topic}?",
        "Which part of {topic} stays with you at night?",
        "When is it loudest, the thought of {topic}?",
        "What would you want others to know about {topic}?",
        "Can you say more about {topic} and that first day?",
        "How do you explain {topic} to yourself?",
        "What goes through your head when {topic} comes close?",
        "How was it before {topic}, if you think back?",
        "What are you most sure of when it comes to {topic}?",
    ),
    "reframe": (
        "Another way to see {topic} is as a question, and no verdict.",
        "Perhaps what you call failure says more about {topic} than about you.",
        "{Topic} need not mean you did anything wrong.",
        "Two things can be true at once: {topic} matters, and so do you.",
        "One way to read {topic} is that you have loved it.",
        "Maybe it is less about blame and more about the timing of {topic}.",
        "All this trouble with {topic} could show that you care rather than that you are weak.",
        "What this shows is how much room {topic} takes for now.",
        "Looked at another way, {topic} tells you what counts.",
        "It does not mean you are lost because {topic} went like this.",
    ),
    "affirm": (
        "You have carried {topic} for so long.",
        "It takes courage to talk about {topic}.",
        "You kept going in spite of {topic}.",
        "I trust you will know what to do with {topic}.",
        "You showed real strength over {topic}.",
        "You managed to say what {topic} is, out loud.",
        "You still care in the middle of {topic}.",
        "I believe you can meet {topic} in your own way.",
        "It shows patience, how gently you speak of {topic}.",
        "You already named {topic} and did not run.",
    ),
    "step": (
        "You could write two lines about {topic} tonight.",
        "One small step might be a phone call about {topic}.",
        "Would it help to ask somebody you like about {topic}?",
        "How about giving {topic} ten minutes and no more?",
        "You might tell one friend how {topic} is going.",
        "A first try can be to sit down with {topic} for a moment.",
        "What if you start with the easy end of {topic}?",
        "It might help to put a date on {topic}.",
        "Consider taking {topic} for a walk in your thoughts.",
        "You can set {topic} aside until Sunday and then look again.",
    ),
}  # fmt: skip
"""Ten ways to say each kind, none of them nearly another."""

KIND_OF_AXIS = ("reframe", "acknowledge", "step")
"""What helps most on C, A and P."""


def named(scenario: Scenario) -> str:
    """Return the topic as the helper names it."""
    return f"your {scenario.topic[3:]}" if scenario.topic.startswith("my ") else scenario.topic


def say(kind: str, number: int, scenario: Scenario) -> str:
    topic = named(scenario)
    return LINES[kind][number % 10].format(topic=topic, Topic=topic[0].upper() + topic[1:])


def in_turn(*kinds: str) -> Rule:
    """Build a rule that cycles through the kinds and ignores the user."""
    return lambda scenario, heard, said: say(kinds[len(said) % len(kinds)], len(said), scenario)


def attentive(scenario: Scenario, heard: Sequence[str], said: Sequence[str]) -> str:
    """Return a reply for the need in focus."""
    inner = start(scenario.initial_state, NEED_ORDER)
    felt = replay(inner, list(zip(heard, said, strict=False)))
    return say(KIND_OF_AXIS[(felt[-1].after if felt else inner).focus], len(said), scenario)


@dataclass(frozen=True)
class RuledPolicy:
    scenario: Scenario
    rule: Rule

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        heard = [message["content"] for message in messages if message["role"] == "user"]
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        return ChatReply(self.rule(self.scenario, heard, said), "rule")


async def talk(rule: Rule, scenario: Scenario, *, seed: int = 0) -> Trajectory:
    return await talk_with(RuledPolicy(scenario, rule), scenario, seed=seed)


async def talk_with(policy: ChatModel, scenario: Scenario, *, seed: int = 0) -> Trajectory:
    roles, domain = ScriptedRoles(), EMOTIONAL_SUPPORT
    environment = DialogueEnvironment(
        scenario,
        domain,
        actor=Actor(roles, domain, SAMPLING),
        judge=Judger(roles, domain, SAMPLING),
        director=Director(roles, domain, SAMPLING),
        seed=seed,
    )
    return await play_dialogue(
        DialogueStart(scenario), environment, TextPolicy(policy), SAMPLING, policy_prompt=domain.policy_prompt
    )


async def talks(rule: Rule, *, seed: int = 0) -> list[Trajectory]:
    """One talk for every test scenario of the domain."""
    return [await talk(rule, scenario, seed=seed) for scenario in TESTS]


def pass_fraction(trajectories: Sequence[Trajectory]) -> float:
    return sum(trajectory.stop is Stop.SUCCESS for trajectory in trajectories) / len(trajectories)


def mean_reward(trajectories: Sequence[Trajectory]) -> float:
    """Mean incremental distance reward of a turn, points."""
    turns = Rewards()(trajectories)
    assert turns.valid.any(axis=1).all()
    return float(turns.rewards[turns.valid].mean())
