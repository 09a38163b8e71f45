"""The reader finds what a reply offers and what it harms, and is not taken in by form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.embedded.reply_reader import MAX_WORDS, Harm, Kind, Reading, content_words, read_reply

OPENING = "I cannot sleep since the exam. My friends all passed and I feel ashamed."
OTHERS = (
    "You could write down two lines about the exam tonight.",
    "No wonder you are tired when the exam is always there.",
)


def read(reply: str, *, heard: str = OPENING, earlier: tuple[str, ...] = ()) -> Reading:
    return read_reply(reply, heard=[heard], earlier=earlier)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("That must have been really hard, with the exam and all.", Kind.ACKNOWLEDGE),
        ("You're feeling ashamed, and no wonder you do after that exam.", Kind.ACKNOWLEDGE),
        ("What was it like to hear about the exam?", Kind.EXPLORE),
        ("The exam does not mean you are worth less.", Kind.REFRAME),
        ("Perhaps your exam says more about the day than about you.", Kind.REFRAME),
        ("It takes courage to tell me about the exam.", Kind.AFFIRM),
        ("You still care, in the middle of the exam.", Kind.AFFIRM),
        ("You could ask one friend how the exam went for them.", Kind.STEP),
    ],
)
def test_kinds_are_read_alone_and_without_harm(reply: str, kind: Kind) -> None:
    reading = read(reply)
    assert (reading.kinds, reading.harms, reading.is_specific) == ({kind}, frozenset(), True)
    assert reading.evidence[kind] in reply.lower()


@pytest.mark.parametrize(
    ("reply", "harm"),
    [
        ("Calm down, the exam is not a big deal.", Harm.DISMISS),
        ("You should work harder for the exam.", Harm.PREACH),
        ("Stay positive, everything happens for a reason.", Harm.HOLLOW),
        ("The exam sounds hard. Perhaps it is less about you. You could start again.", Harm.OVERLOAD),
        ("The exam sounds hard. It is sad. It is a lot. It hurts.", Harm.OVERLOAD),
        ("The exam sounds hard " + "and so on " * (MAX_WORDS // 3), Harm.OVERLOAD),
        ("You cannot sleep since the exam, your friends all passed and you feel ashamed.", Harm.ECHO),
        (OPENING, Harm.ECHO),
        ("The exam sounds hard, and your friends all", Harm.BROKEN),
        ("", Harm.IGNORE),
        ("...", Harm.IGNORE),
        ("The exam.", Harm.IGNORE),
        ("The weather is fine over here today.", Harm.IGNORE),
        ("exam heavy weighs on you exam exam exam exam", Harm.IGNORE),
        ("You are sad exam the of hard and perhaps it is the a.", Harm.IGNORE),
        ("I feel ashamed too, my own exam still keeps me awake.", Harm.SLIP),
        ("The exam sounds hard. User: Yes, that is it.", Harm.SLIP),
        ("<|im_start|>assistant The exam sounds hard.", Harm.SLIP),
        ("The user feels ashamed, so the exam sounds hard.", Harm.SLIP),
    ],
)
def test_harms_are_read(reply: str, harm: Harm) -> None:
    assert harm in read(reply).harms


def test_echo_is_heard_beside_a_good_reply() -> None:
    good = "The exam sounds painful, and no wonder."
    assert Harm.ECHO not in read(good).harms
    assert Harm.ECHO in read(f"{good} Your friends all passed and you feel ashamed.").harms


def test_taking_up_the_topic_is_no_echo() -> None:
    assert read("No wonder you feel ashamed when your friends all talk about the exam.").harms == frozenset()


@pytest.mark.parametrize("reply", OTHERS)
def test_repetition_is_heard_through_small_edits(reply: str) -> None:
    assert Harm.REPEAT not in read(reply, earlier=()).harms
    for edited in (reply, reply.upper(), f"Well, {reply}", reply.replace("exam", "whole exam")):
        assert Harm.REPEAT in read(edited, earlier=("Something else was said first.", reply)).harms


def test_two_different_replies_do_not_repeat_each_other() -> None:
    first, second = OTHERS
    assert Harm.REPEAT not in read(first, earlier=(second,)).harms


def test_order_is_no_step() -> None:
    offer, order = "You could start with one page.", "You should take it, you could start with one page."
    assert read(offer).kinds == {Kind.STEP}
    assert (read(order).kinds, Harm.PREACH in read(order).harms) == (frozenset(), True)


def test_stock_comfort_beside_something_specific_is_politeness() -> None:
    # The stock phrase alone, beside a kind without the topic, beside the topic without a kind, beside both.
    stock = "I am sorry to hear that."
    assert Harm.HOLLOW in read(stock).harms
    assert Harm.HOLLOW in read(f"{stock} That sounds really hard.").harms
    assert Harm.HOLLOW in read(f"{stock} So the exam it is.").harms
    assert read(f"{stock} The exam sounds really hard.").harms == frozenset()


@pytest.mark.parametrize(
    "reply",
    [
        "I do not think the exam sounds hard.",
        "Nobody says that the exam is painful.",
        "She sounds sad to me now.",
    ],
)
def test_feeling_that_is_denied_or_not_the_users_is_not_acknowledged(reply: str) -> None:
    assert Kind.ACKNOWLEDGE not in read(reply).kinds


def test_denial_reaches_no_further_than_its_clause() -> None:
    assert read("I was not there, but the exam sounds hard.").kinds == {Kind.ACKNOWLEDGE}
    assert read("You do not have to hide. It sounds hard.").kinds == {Kind.ACKNOWLEDGE}


def test_typographic_apostrophes_are_plain_ones() -> None:
    curly, plain = (f"The exam doesn{mark}t mean you failed." for mark in ("\u2019", "'"))
    assert read(curly) == read(plain)


def test_content_words_are_topics_in_order_and_in_the_singular() -> None:
    assert content_words("The exams, and my sister's first letters: I feel sad about them.") == [
        "exam",
        "sister",
        "letter",
    ]


def test_specific_means_any_word_the_user_ever_said() -> None:
    heard = ["It is the exam.", "I cannot sleep."]
    assert read_reply("The exam sounds hard.", heard=heard, earlier=[]).is_specific
    assert not read_reply("The wedding sounds hard.", heard=heard, earlier=[]).is_specific


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200), st.lists(st.text(max_size=80), max_size=3))
def test_any_text_is_read_and_evidence_is_quoted_from_it(reply: str, earlier: list[str]) -> None:
    reading = read_reply(reply, heard=[OPENING], earlier=earlier)
    text = reply.lower().replace("\u2019", "'")
    assert all(quote in text for quote in reading.evidence.values())
    assert reading.kinds <= set(Kind) and reading.harms <= set(Harm)
