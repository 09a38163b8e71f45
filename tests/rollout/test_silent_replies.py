"""Nobody hears a thought, and nobody is asked about a reply without words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.dialogue.answer_counts import count_answers, count_failures, count_silent
from mica_ray.dialogue.play import TextPolicy
from mica_ray.evaluation.evaluate import evaluation_metrics, summarize
from mica_ray.recordings.transcript import transcript
from mica_ray.rewards import Rewards
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.types import Generation, PolicyWeights, Sampling, Status, Stop, Trajectory
from tests.dialogue.tiny_domain import QueuedChat
from tests.rollout.counting_dialogue import CountingEnvironment, scenario
from tests.small_policy import CHATML, THINKING, small_tokenizer

OPENED = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
THOUGHT = "<think>\nA loss.\n</think>\n\nThat hurts."


@dataclass
class WordyEngine:
    """Samples the given texts in order, one a turn."""

    template: ChatTemplate
    texts: Sequence[str]
    prompts: list[str] = field(default_factory=list)

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        text = self.texts[len(self.prompts)]
        self.prompts.append(self.template.text(prompt_ids))
        ids = self.template.prompt(
            [{"role": "user", "content": text}]
        )  # Any tokens: the text is what counts.
        return Generation(tuple(prompt_ids), ids, (-1.0,) * len(ids), text, "length", 0)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...


async def play(
    texts: Sequence[str], source: str = CHATML
) -> tuple[Trajectory, CountingEnvironment, WordyEngine]:
    template = ChatTemplate(small_tokenizer(source))
    engine, environment = WordyEngine(template, texts), CountingEnvironment(scenario("a"), 0)
    (trajectory,) = await collect(
        [scenario("a")],
        lambda who, seed: environment,
        EnginePolicy(engine, template, 5000),
        RolloutConfig(1, Sampling(max_tokens=8), 5000),
        step=0,
        seed=0,
        policy_prompt="",
    )
    return trajectory, environment, engine


async def test_environment_and_recording_have_what_was_said_only() -> None:
    trajectory, environment, _ = await play([THOUGHT, "Hm, `<think>`.", "[THINK]So.[/THINK]Bye."])
    said = ["That hurts.", "Hm, `<think>`.", "Bye."]
    assert environment.replies == said == [turn.reply for turn in trajectory.turns]
    assert "A loss" not in str(transcript(trajectory))
    # The sampled tokens keep the thought: it is trained.
    assert trajectory.turns[0].generation is not None and trajectory.turns[0].generation.text == THOUGHT


async def test_thought_that_the_template_opened_is_not_heard() -> None:
    _, environment, _ = await play(["A loss.\n</think>\n\nThat hurts."] * 3, OPENED)
    assert environment.replies == ["That hurts."] * 3


async def test_template_that_is_not_monotone_gets_what_was_said() -> None:
    _, _, engine = await play([THOUGHT] * 3, THINKING)
    assert not engine.template.is_monotone
    assert all("That hurts." in prompt and "A loss" not in prompt for prompt in engine.prompts[1:])


@pytest.mark.parametrize(
    ("source", "last", "reason"),
    [
        (CHATML, "<think>She lost her", "ends inside a thought"),
        (CHATML, "[THINK]She lost her", "ends inside a thought"),
        (CHATML, "analysisShe lost her", "ends inside a thought"),
        (OPENED, "She lost her", "ends inside a thought"),
        (CHATML, "<think>She lost her dog.</think>\n", "reply is empty"),
        (CHATML, "", "reply is empty"),
        (CHATML, " \n", "reply is empty"),
    ],
)
async def test_reply_without_words_ends_the_dialogue_without_a_score(
    source: str, last: str, reason: str
) -> None:
    opened = "</think>" if source == OPENED else ""
    trajectory, environment, _ = await play([f"{opened}Hello.", last], source)
    assert environment.replies == ["Hello."]
    assert (trajectory.stop, trajectory.error, len(trajectory.turns)) == (Stop.LIMIT, None, 2)
    turn = trajectory.turns[1]
    assert (turn.reply, turn.is_silent, turn.finish_reason) == ("", True, "length")
    assert (turn.judgement.status, turn.judgement.delta, turn.state_after) == (
        Status.INVALID,
        None,
        trajectory.turns[0].state_after,
    )
    assert reason in str(turn.judgement.error)
    assert turn.generation is not None and turn.generation.text == last


@pytest.mark.parametrize("missing", ["mask", "dialogue_mean"])
async def test_silent_turn_has_no_reward_and_the_earlier_ones_keep_theirs(missing: str) -> None:
    trajectory, _, _ = await play(["Hello.", "Hi.", "<think>hm"])
    assert Rewards("sum", missing="mask" if missing == "mask" else "dialogue_mean")(
        [trajectory]
    ).valid.tolist() == [[True, True, False]]


async def test_silent_replies_are_counted_and_are_no_answer_of_the_judge() -> None:
    trajectory, _, _ = await play(["Hello.", "<think>hm"])
    assert count_silent([trajectory]) == 1
    assert count_failures([trajectory]) == 0
    assert count_answers([trajectory]) == {("judge", Status.OK): 1}
    evaluation = summarize([trajectory], seed=0)
    assert (evaluation.num_silent_replies, evaluation.num_failed_judgements) == (1, 0)
    assert evaluation_metrics(evaluation)["eval_silent_replies"] == 1


async def test_dialogue_in_which_nothing_was_said_failed() -> None:
    trajectory, environment, _ = await play(["<think>hm"])
    assert (trajectory.stop, environment.replies, count_failures([trajectory])) == (Stop.FAILED, [], 1)
    assert "Nothing was said, so nobody was asked." in str(trajectory.error)
    assert "Raise max_tokens" in str(trajectory.error)


async def test_unusable_answer_of_an_endpoint_says_nothing_and_an_outage_fails() -> None:
    unusable = ChatError("m at e: the answer is empty", kind="content", endpoint="e")
    outage = ChatError("m at e: down", kind="infrastructure", endpoint="e")
    for error, stop, num_turns in ((unusable, Stop.LIMIT, 2), (outage, Stop.FAILED, 1)):
        (trajectory,) = await collect(
            [scenario("a")],
            CountingEnvironment,
            TextPolicy(QueuedChat(ChatReply("Hello.", "m", finish_reason="stop"), error)),
            RolloutConfig(1, Sampling(max_tokens=8), 500),
            step=0,
            seed=0,
            policy_prompt="",
        )
        assert (trajectory.stop, len(trajectory.turns)) == (stop, num_turns)
        assert trajectory.turns[0].finish_reason == "stop"
