"""The time of the care check grows in proportion to the message, and the event loop stays free meanwhile."""

from __future__ import annotations

import asyncio
import re
import time
import tomllib
from collections.abc import Iterator

import httpx
import pytest

from mica_ray.safety.check import CareFinding, CareSteps, HelpLines, NoCare
from mica_ray.safety.paced_check import PacedCare
from mica_ray.safety.rules import OWN_RULES, CareRules, RuleCare
from mica_ray.safety.text import MAX_SENTENCE, Spelling, sentences
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

RULES = CareRules.read()
CHECK = RuleCare(RULES, HelpLines())
SHORT, LONG = 4_000, 32_000


def rule_words() -> list[str]:
    """Return every run of letters in the rules, in both languages."""
    content = tomllib.loads(OWN_RULES.read_text(encoding="utf-8"))
    texts = list(_texts(content))
    # Without the letters of classes such as \b and \w.
    found = {
        word for text in texts for word in re.findall(r"[a-z]+|[\u4e00-\u9fff]+", re.sub(r"\\.", " ", text))
    }
    return sorted(found)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def repeated(piece: str, length: int) -> str:
    return (piece * (length // len(piece) + 1))[:length]


def work(text: str) -> tuple[int, int]:
    """Return the characters that are searched by every pattern, and the longest part among them."""
    parts = list(sentences(text, RULES.spelling))
    return sum(map(len, parts)), max(map(len, parts), default=0)


def test_the_rules_have_words_in_both_languages() -> None:
    words = rule_words()
    assert len(words) > 1000
    assert {"kill", "took", "knife", "自杀"} <= set(words)


def test_no_pattern_has_an_unbounded_wildcard() -> None:
    for text in _texts(tomllib.loads(OWN_RULES.read_text(encoding="utf-8"))):
        assert not re.search(r"(?<!\\)\.[*+]", text), text


@pytest.mark.parametrize("separator", ["", " ", ", ", "\n", " 7", "-"])
def test_any_word_of_the_rules_repeated_costs_in_proportion(separator: str) -> None:
    # Deterministic: what the patterns search, and never more than MAX_SENTENCE at once.
    for word in rule_words()[::150]:
        short, _ = work(repeated(word + separator, SHORT))
        long, longest = work(repeated(word + separator, LONG))
        assert long <= 10 * max(short, 1), word
        assert longest <= MAX_SENTENCE


@pytest.mark.parametrize(
    "piece",
    [
        "\u0301\u0323",  # marks that a normalization sorts
        "e\u0301\u0323",
        "\U0001d165\U0001d16d",  # spacing marks that combine
        "\ufdfa",  # one character that stands for 18
        "\u200b",
        "\ufb03",
        "k.",
        "k i l l  ",
        "d1e",
        "'s",
        "-\n",
        "> ",
        "\r\n",
        "\u2028",
        "想\n",
        "…",
        "_",
        "a,",
        "\ud800",
        "\x00",
    ],
    ids=ascii,
)
def test_characters_repeated_cost_in_proportion(piece: str) -> None:
    short, _ = work(repeated(piece, SHORT))
    long, longest = work(repeated(piece, LONG))
    assert long <= 10 * max(short, 100)
    assert longest <= MAX_SENTENCE


def test_distinct_sentences_cost_in_proportion() -> None:
    # None is skipped as one that was searched before.
    texts = {n: "".join(f"going to {i} the knife " for i in range(n // 20))[:n] for n in (SHORT, LONG)}
    assert work(texts[LONG])[0] <= 10 * work(texts[SHORT])[0]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("separator", ["", " ", ", ", "\n", " 7", "-"])
def test_every_word_of_the_rules_repeated_costs_in_proportion(separator: str) -> None:
    for word in rule_words():
        assert work(repeated(word + separator, LONG))[0] <= 10 * work(repeated(word + separator, SHORT))[0], (
            word
        )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_seconds_of_any_word_of_the_rules_are_in_proportion() -> None:
    def seconds(text: str, times: int) -> float:
        def once() -> float:
            begin = time.process_time()
            RULES.find(text)
            return time.process_time() - begin

        return min(once() for _ in range(times))

    def ratio(word: str, times: int) -> float:
        # Three times in any case: a disturbed short time would hide a slow word.
        return seconds(repeated(f"{word} ", LONG), times) / seconds(repeated(f"{word} ", SHORT), 3)

    slow = [word for word in rule_words() if ratio(word, 1) > 10]
    # Measured again: another program may have used the caches of the processor in between.
    assert not [word for word in slow if ratio(word, 3) > 10]


@pytest.mark.parametrize("position", [0, 700, 715, 719, 720, 725, 960, 8180, 8192, 8200, 20_000])
def test_danger_is_found_wherever_a_long_sentence_is_cut(position: int) -> None:
    filler = repeated("the week was long ", position)
    assert RULES.find(f"{filler} i want to kill myself {filler}") == "self_harm"
    assert (
        RULES.find(f"{repeated('今天天气', position)}我想自杀{repeated('今天天气', position)}") == "self_harm"
    )


@pytest.mark.parametrize(
    "break_", ["\n", "\r\n", "\r", "\n\n", " \n ", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\n> ", "\n- "]
)
def test_a_line_break_inside_a_phrase_hides_nothing(break_: str) -> None:
    assert RULES.find(f"I want{break_}to kill{break_}myself") == "self_harm"
    assert RULES.find(f"He is not{break_}breathing") == "medical"
    assert RULES.find(f"I am going to{break_}stab my boss") == "violence"
    if break_.isspace():
        assert RULES.find(f"我想{break_}自{break_}杀") == "self_harm"


def test_a_hyphen_at_the_end_of_a_line_hides_nothing() -> None:
    assert RULES.find("I am thinking about sui-\ncide") == "self_harm"


def test_an_excuse_on_another_line_excuses_nothing() -> None:
    assert RULES.find("I want to kill myself\nI once read a book about it") == "self_harm"


def test_a_long_gap_inside_a_phrase_hides_nothing() -> None:
    gap = "-=" * 2000
    assert RULES.find(f"I want to {gap} kill {gap} myself") == "self_harm"
    assert RULES.find("I want to k\u200b" + "\u200b" * 9000 + "ill myself") == "self_harm"


def test_a_break_adds_no_alarm_to_harmless_lines() -> None:
    for text in (
        "This deadline\nis killing me",
        "I am not suicidal\njust tired",
        "Kill time\nwith my friends",
    ):
        assert RULES.find(text) is None, text


def test_a_part_of_a_sentence_is_yielded_once() -> None:
    parts = [part for part in sentences("one two. one two.\none two", Spelling()) if part]
    assert parts.count("one two") == 1


class Endless:
    """A check that needs any number of steps, each at its own pace."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps, self.num_done = num_steps, 0

    def check(self, text: str, locale: str) -> CareFinding | None:
        raise AssertionError("a service runs the check in steps")

    def steps(self, text: str, locale: str) -> CareSteps:
        for _ in range(self.num_steps):
            self.num_done += 1
            yield
        return CareFinding("medical", "found")

    def help_line(self, locale: str) -> str:
        return f"help ({locale})"

    def without_help_line(self, text: str) -> str:
        return text


class Ticking:
    """A clock that advances by a millisecond with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


async def test_other_work_runs_between_the_slices_of_a_long_check() -> None:
    check = Endless(100)
    paced = PacedCare(check, seconds=60, clock=Ticking())
    seen: list[int] = []

    async def other() -> None:
        while len(seen) < 5:
            seen.append(check.num_done)
            await asyncio.sleep(0)

    finding, _ = await asyncio.gather(paced.check("text", "en"), other())
    assert finding == CareFinding("medical", "found")
    # A slice of 5 ms has four looks at the clock that allow a step; the other task runs after each slice.
    assert seen == [4, 8, 12, 16, 20]


async def test_a_check_that_does_not_end_counts_as_a_finding() -> None:
    paced = PacedCare(Endless(10**12), seconds=0.05)
    assert await paced.check("text", "de") == CareFinding("unchecked", "help (de)")


async def test_a_short_message_does_not_wait_for_long_ones() -> None:
    paced = PacedCare(RuleCare(RULES, HelpLines()), seconds=60)
    long = "".join(f"going to {i} the knife " for i in range(10_000))
    busy = [asyncio.create_task(paced.check(long, "en")) for _ in range(3)]
    await asyncio.sleep(0)
    found = await paced.check("I want to kill myself", "en")
    assert found is not None and found.kind == "self_harm"
    assert not any(task.done() for task in busy)
    for task in busy:
        task.cancel()


async def test_no_care_finds_nothing() -> None:
    assert await PacedCare(NoCare(), seconds=1).check("I want to die", "en") is None


@pytest.mark.long
async def test_health_answers_while_long_messages_are_checked() -> None:
    # Just below the limit of a message, 32,768 characters.
    messages = [
        {
            "role": "user",
            "content": "".join(f"going {i} the knife " for i in range(start, start + 1500))[:LONG],
        }
        for start in (0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000)
    ]
    app = create_app(ScriptedBackend(), ServeSettings(), care=CHECK)
    async with served(app) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        ask = {"messages": messages}
        busy = [asyncio.create_task(client.post("/v1/chat/completions", json=ask)) for _ in range(8)]
        waits: list[float] = []
        while not all(task.done() for task in busy):
            begin = time.monotonic()
            assert (await client.get("/health")).status_code == 200
            waits.append(time.monotonic() - begin)
            await asyncio.sleep(0.02)
        assert [task.result().text for task in busy if task.result().status_code != 200] == []
    assert len(waits) > 10
    assert max(waits) < 0.2
