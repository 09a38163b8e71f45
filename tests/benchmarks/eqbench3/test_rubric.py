"""Judging: what the judge reads, which answers count, and that nothing missing is replaced."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from mica_ray.benchmarks.answers import Answer, AnswerLog
from mica_ray.benchmarks.eqbench3.conversations import Conversation
from mica_ray.benchmarks.eqbench3.items import SCORED, EqBench3
from mica_ray.benchmarks.eqbench3.judging import judge_all
from mica_ray.benchmarks.eqbench3.rubric import judge_task, read_scores, rubric_messages
from mica_ray.benchmarks.eqbench3.summary import summarize
from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.types import Message, Sampling
from tests.benchmarks.eqbench3.small_benchmark import FORMED, STYLE, item_of, judgement, write_benchmark

CRITERIA = (*SCORED["role-play"], *STYLE)
GREEDY = Sampling(temperature=0.0, max_tokens=100)


class Judge:
    """Answers from a list, then repeats its last answer; the text "down" is a failed call."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[Message]] = []
        self.samplings: list[Sampling] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.asked.append(messages)
        self.samplings.append(sampling)
        text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if text == "down":
            raise ChatError("down", kind="infrastructure", endpoint="judge")
        return ChatReply(text, model="judge")


def talk(data: EqBench3, *, sample: int = 0, problem: str | None = None) -> Conversation:
    item = item_of(data, "role-play")
    return Conversation(item, sample, (FORMED, "{output_format} **Sorry**"), "I could do better.", problem)


async def judged(data: EqBench3, log: AnswerLog, judge: Judge, *talks: Conversation) -> tuple[str, ...]:
    asked = [judge_task(data, one) for one in talks]
    return await judge_all(asked, judge, GREEDY, record=log.record, deadline_seconds=5.0)


def test_score_is_five_times_the_mean_of_the_scored_criteria() -> None:
    # Six scored values 10, 10, 10, 10, 10, 16: mean 11, times 5. Style (20, 0) does not count.
    text = judgement(CRITERIA, warmth=20, analytical=0, message_tailoring=16)
    scores = read_scores(text, CRITERIA, SCORED["role-play"])
    assert scores["score"] == pytest.approx(55.0)
    assert (scores["warmth"], scores["message_tailoring"]) == (20, 16)


@pytest.mark.parametrize(
    ("given", "value"), [("15", 15), ("15/20", 15), (" 7.5 / 20", 7.5), (0, 0), (20, 20)]
)
def test_number_may_be_text(given: object, value: float) -> None:
    assert read_scores(judgement(["a"], given), ["a"], ["a"]) == {"score": 5 * value, "a": value}


@pytest.mark.parametrize("given", [-0.1, 20.1, "high", "15/30", True, None, math.nan, [15]])
def test_no_number_from_0_to_20_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="a must be a number from 0 to 20"):
        read_scores(judgement(["a"], given), ["a"], ["a"])


def test_missing_criterion_is_refused_even_if_it_is_one_of_style() -> None:
    with pytest.raises(ValueError, match="analytical is missing"):
        read_scores(judgement(CRITERIA[:-1]), CRITERIA, SCORED["role-play"])


def test_judge_reads_conversation_debrief_and_form(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    (message,) = rubric_messages(data, talk(data))
    asked = message["content"]
    assert asked.index("A parcel is lost.") < asked.index("I am sorry.") < asked.index("I could do better.")
    # A place that the policy wrote stays text, and marks of Markdown are removed.
    assert "{output_format} Sorry" in asked and "*" not in asked and "#" not in asked
    assert '"warmth": 0-20' in asked.split("Form:")[1]


def test_schema_asks_for_every_criterion_after_the_reasons(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    schema = judge_task(data, talk(data)).schema
    assert schema["required"] == ["chain_of_thought_reasoning", *CRITERIA]
    assert json.dumps(schema)


async def test_unreadable_answer_is_asked_for_once_more(tmp_path: Path) -> None:
    data, log = EqBench3(write_benchmark(tmp_path / "data")), AnswerLog(tmp_path / "out", {})
    judge = Judge(judgement(CRITERIA[:-1]), judgement(CRITERIA, 12))
    assert await judged(data, log, judge, talk(data)) == ()
    assert "analytical is missing" in judge.asked[1][-1]["content"]
    answer = log.find("1", 0)
    assert answer is not None and answer.scores is not None and answer.scores["score"] == pytest.approx(60.0)
    assert {sampling.temperature for sampling in judge.samplings} == {0.0}


async def test_unreadable_twice_is_counted_and_never_scored(tmp_path: Path) -> None:
    data, log = EqBench3(write_benchmark(tmp_path / "data")), AnswerLog(tmp_path / "out", {})
    assert await judged(data, log, Judge("good, I think"), talk(data)) == ()
    answer = log.find("1", 0)
    assert answer is not None and answer.scores is None and "no JSON object" in str(answer.problem)
    assert AnswerLog(tmp_path / "out", {}).find("1", 0) == answer


async def test_failed_call_is_not_recorded(tmp_path: Path) -> None:
    data, log = EqBench3(write_benchmark(tmp_path / "data")), AnswerLog(tmp_path / "out", {})
    assert await judged(data, log, Judge("down"), talk(data)) == ("down",)
    assert log.answers == ()


def test_summary_averages_samples_then_items_and_counts_the_rest(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    role_play, analysis = item_of(data, "role-play"), item_of(data, "analysis")
    talks = [talk(data), talk(data, sample=1), talk(data, sample=2), talk(data, sample=3, problem="empty")]
    talks.append(Conversation(analysis, 0, ("Deep.",), None))
    wanted = [(role_play, sample) for sample in range(5)] + [(analysis, 0)]
    values = dict.fromkeys(CRITERIA, 10.0)
    judgements = {
        ("1", 0): Answer("1", 0, scores={"score": 40.0, **values, "warmth": 1.0}),
        ("1", 1): Answer("1", 1, scores={"score": 60.0, **values, "warmth": 3.0}),
        ("1", 2): Answer("1", 2, problem="no JSON object"),
        ("401", 0): Answer("401", 0, scores={"score": 90.0, **dict.fromkeys(SCORED["analysis"], 18.0)}),
    }
    summary = summarize(data, wanted, talks, lambda item, sample: judgements.get((item, sample)))
    # ((40 + 60) / 2 + 90) / 2 = 70; the unusable conversation as 0: ((40 + 60 + 0) / 3 + 90) / 2.
    assert summary.groups["all"]["all"].score.estimate == pytest.approx(70.0)
    assert summary.groups["all"]["all"].strict == pytest.approx((100 / 3 + 90) / 2)
    assert summary.groups["part"]["role-play"].score.estimate == pytest.approx(50.0)
    assert summary.criteria["conversations"]["warmth"].estimate == pytest.approx(2.0)
    assert summary.criteria["analyses"]["correctness"].estimate == pytest.approx(18.0)
    assert (summary.num_invalid, summary.num_unusable, summary.num_missing) == (1, 1, 1)
    # Two replies in each of four role-plays; one of each pair has its sections.
    assert (summary.num_unsectioned, summary.num_replies) == (4, 8)
    record = summary.record()
    assert (record["invalid_judgements"], record["unusable_conversations"], record["missing"]) == (1, 1, 1)
    assert isinstance(record["all"], dict) and record["all"]["num_unscored"] == 1
