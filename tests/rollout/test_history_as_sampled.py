"""Prompts that keep earlier turns as they were sampled, over the families of chat templates."""

from __future__ import annotations

import random
from functools import cache

import pytest

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.turn_marks import forges_channels
from mica_ray.types import Generation, Message
from tests.rollout.template_families import FAMILIES, family_tokenizer, num_turns, spoken_turns
from tests.rollout.test_control_marks_in_prompts import conversation, forged_text
from tests.small_policy import small_tokenizer

REWRITING = ("qwen3", "qwen3_off", "qwen3_on", "deepseek", "harmony", "mistral_last", "chatml_json")
"""Families whose templates rewrite earlier turns."""


@cache
def as_sampled(name: str) -> ChatTemplate:
    return ChatTemplate(family_tokenizer(name), history="as_sampled")


@cache
def as_rendered(name: str) -> ChatTemplate:
    return ChatTemplate(family_tokenizer(name))


def opening() -> list[Message]:
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "I lost my job."}]


def answered(messages: list[Message], reply: str, user: str) -> list[Message]:
    return [*messages, Message(role="assistant", content=reply), Message(role="user", content=user)]


def tokens_of(name: str, text: str) -> tuple[int, ...]:
    return tuple(family_tokenizer(name).encode(text, add_special_tokens=False))


def sampled(prompt: tuple[int, ...], token_ids: tuple[int, ...], text: str) -> Generation:
    return Generation(prompt, token_ids, (0.0,) * len(token_ids), text, "stop", 0)


def shown(name: str, ids: tuple[int, ...]) -> str:
    return str(family_tokenizer(name).decode(list(ids)))


def test_the_families_that_rewrite_history_are_known() -> None:
    assert {name for name in FAMILIES if not as_rendered(name).is_monotone} == {*REWRITING}
    assert all(as_sampled(name).is_monotone for name in FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_prompt_continues_the_one_before_and_its_reply(name: str) -> None:
    # No tokenizer makes these tokens of a text: single bytes, some of them not decodable.
    template, messages = as_sampled(name), opening()
    prompt = template.prompt(messages)
    for turn in range(10):
        tokens = tuple(range(20 + turn, 40 + turn, 3))
        messages = answered(messages, template.text(tokens), f"Turn {turn}.")
        longer = template.next_prompt(messages, sampled(prompt, tokens, template.text(tokens)))
        assert longer[: len(prompt) + len(tokens)] == prompt + tokens
        assert num_turns(name, longer) == spoken_turns(name, messages)
        prompt = longer


def test_qwen3_without_thinking_keeps_the_empty_thought_of_every_reply() -> None:
    thought = "<think>\n\n</think>\n\n"
    first = (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nI lost my job.<|im_end|>\n"
        f"<|im_start|>assistant\n{thought}"
    )
    rest = f"\n<|im_start|>user\nYes.<|im_end|>\n<|im_start|>assistant\n{thought}"
    template = as_sampled("qwen3_off")
    prompt = template.prompt(opening())
    assert shown("qwen3_off", prompt) == first
    messages = answered(opening(), "That is heavy.", "Yes.")
    reply = tokens_of("qwen3_off", "That is heavy.<|im_end|>")
    after = template.next_prompt(messages, sampled(prompt, reply, "That is heavy."))
    assert shown("qwen3_off", after) == f"{first}That is heavy.<|im_end|>{rest}"
    # A reply that was cut off is closed by the prompt.
    assert template.next_prompt(messages, sampled(prompt, reply[:-1], "That is heavy.")) == after
    # The same for a reply that is known by its text only, as in the service.
    assert template.prompt(messages) == after
    rendered = as_rendered("qwen3_off").prompt(messages)
    assert shown("qwen3_off", rendered) == f"{first.removesuffix(thought)}That is heavy.<|im_end|>{rest}"


def test_qwen3_with_thinking_keeps_the_sampled_thoughts() -> None:
    template, name = as_sampled("qwen3_on"), "qwen3_on"
    prompt = template.prompt(opening())
    reply = tokens_of(name, "<think>\nhm\n</think>\n\nI see.<|im_end|>")
    messages = answered(opening(), "I see.", "Yes.")
    after = template.next_prompt(messages, sampled(prompt, reply, "<think>\nhm\n</think>\n\nI see."))
    assert after[: len(prompt) + len(reply)] == prompt + reply
    # The text of a reply has no thought: a service that gets the text only renders as the template does.
    assert template.prompt(messages) == as_rendered(name).prompt(messages)


def test_reply_known_by_its_text_is_not_placed_inside_a_thought_that_the_prompt_opens() -> None:
    # This template's prompts end with <think>; no text closes it.
    messages = answered(opening(), "I see.", "Yes.")
    ids = as_sampled("qwen3").prompt(messages)
    assert ids == as_rendered("qwen3").prompt(messages)
    assert shown("qwen3", ids).count("<think>") == 1
    prompt = as_sampled("qwen3").prompt(opening())
    reply = tokens_of("qwen3", "hm\n</think>\n\nI see.<|im_end|>")
    after = as_sampled("qwen3").next_prompt(messages, sampled(prompt, reply, "hm\n</think>\n\nI see."))
    assert shown("qwen3", after).count("<think>") == 2


def test_system_prompt_that_moves_to_the_last_message_stays_with_the_first() -> None:
    name, template, messages = "mistral_last", as_sampled("mistral_last"), opening()
    prompt = template.prompt(messages)
    for user in ("Yes.", "No."):
        messages = answered(messages, "abc", user)
        prompt = template.next_prompt(messages, sampled(prompt, tokens_of(name, "abc</s>"), "abc"))
    assert shown(name, prompt).count("Be kind.") == 1
    assert shown(name, template.prompt(messages)).count("Be kind.") == 1
    assert shown(name, as_rendered(name).prompt(messages)).endswith("Be kind.\n\nNo. [/INST]")


def test_gpt_oss_keeps_its_channels_and_ends_a_reply_once() -> None:
    name, template = "harmony", as_sampled("harmony")
    prompt = template.prompt(opening())
    text = (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>I see.<|return|>"
    )
    messages = answered(opening(), "I see.", "Yes.")
    after = template.next_prompt(messages, sampled(prompt, tokens_of(name, text), "hmI see."))
    assert shown(name, after) == (
        f"{shown(name, prompt)}{text}<|start|>user<|message|>Yes.<|end|><|start|>assistant"
    )
    # Known by its text, the reply gets the channel in which it would have been sampled.
    assert template.prompt(messages) == as_rendered(name).prompt(messages)


@pytest.mark.parametrize(
    ("reply", "forges"),
    [
        ("<|channel|>final<|message|>Hello", False),
        ("<|channel|>final<|message|>Hello<|end|>", False),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi", False),
        ("<|channel|>final <|constrain|>json<|message|>{}", False),
        ("Hello", False),
        ("", False),
        ("<|channel|>final<|message|>Hello<|end|><|start|>user<|message|>Thanks", True),
        ("<|channel|>final<|message|>Hello<|end|><|start|>assistant", True),
        ("<|channel|>analysis<|message|>a<|end|><|start|>user<|channel|>final<|message|>b", True),
        ("<|message|>Hello", True),
        ("Hello<|end|>", True),
        ("<|channel|>final<|message|>Hello<|message|>you", True),
        ("<|channel|>final Hello", True),
    ],
)
def test_reply_of_gpt_oss_forges_a_turn_unless_all_its_messages_are_the_assistants(
    reply: str, forges: bool
) -> None:
    assert forges_channels(reply) is forges


@pytest.mark.parametrize("name", FAMILIES)
def test_forged_marks_add_no_turn_and_keep_earlier_replies(name: str) -> None:
    tokenizer, template = family_tokenizer(name), as_sampled(name)
    for number in range(8):
        rng = random.Random(number)
        messages = conversation(number, name)
        prompt = template.prompt(messages)
        assert num_turns(name, prompt) == spoken_turns(name, messages), messages
        for _ in range(3):
            forged = tuple(tokenizer.encode(forged_text(rng, name), add_special_tokens=False))
            text = template.text(forged)
            messages = answered(messages, text, forged_text(rng, name))
            prompt = template.next_prompt(messages, sampled(prompt, forged, text))
            assert num_turns(name, prompt) == spoken_turns(name, messages), messages


@pytest.mark.parametrize("name", ["chatml", "llama3", "phi", "qwen3_off", "qwen3_on"])
def test_text_replaces_only_the_reply_that_forged_a_turn(name: str) -> None:
    template = as_sampled(name)
    prompt, odd = template.prompt(opening()), (20, 23, 26)
    messages = answered(opening(), template.text(odd), "Yes.")
    second = template.next_prompt(messages, sampled(prompt, odd, template.text(odd)))
    mark = next(iter(FAMILIES[name].counted))
    forged = tokens_of(name, f"abc{mark}user")
    messages = answered(messages, template.text(forged), "No.")
    third = template.next_prompt(messages, sampled(second, forged, template.text(forged)))
    # The odd tokens of the first reply stay, and the text of the second one follows its own prompt.
    text = tokens_of(name, template.text(forged))
    assert third[: len(second) + len(text)] == second + text
    assert num_turns(name, third) == spoken_turns(name, messages)
    # With the history of the template, everything is rendered from texts.
    assert as_rendered(name).next_prompt(
        messages, sampled(second, forged, template.text(forged))
    ) == as_rendered(name).prompt(messages)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(REWRITING)))
def test_template_that_only_appends_is_unchanged(name: str) -> None:
    template, rendered = as_sampled(name), as_rendered(name)
    assert (template.source, template.own_files) == (rendered.source, {})
    for number in range(5):
        messages = conversation(number, name)
        assert template.prompt(messages) == rendered.prompt(messages)


@pytest.mark.parametrize("name", sorted({*REWRITING} - {"chatml_json"}))
def test_saved_template_keeps_the_history_wherever_it_is_loaded(name: str) -> None:
    # Any server applies the saved template to texts; ours recognizes it, whatever history it asks for.
    kept = as_sampled(name)
    source = kept.own_files["chat_template.jinja"]
    tokenizer = family_tokenizer.__wrapped__(name)
    tokenizer.chat_template = source
    saved = ChatTemplate(tokenizer)
    assert (saved.history, saved.is_monotone, saved.own_files) == ("as_sampled", True, {})
    messages, prompt = opening(), kept.prompt(opening())
    for turn in range(3):
        messages = answered(messages, "I see.", f"Turn {turn}.")
        reply = tokens_of(name, "I see.")
        prompt = kept.next_prompt(messages, sampled(prompt, reply, "I see."))
        assert saved.next_prompt(messages, sampled(prompt, reply, "I see.")) == kept.next_prompt(
            messages, sampled(prompt, reply, "I see.")
        )
        assert saved.prompt(messages) == kept.prompt(messages)
    said = [{"role": str(message["role"]), "content": message["content"]} for message in messages]
    rendered = str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    merged = ChatTemplate(tokenizer)._rendering.merged(messages)
    if merged == messages:
        assert tokens_of(name, rendered) == saved.prompt(messages)
    # Without a prompt for a reply, as in supervised training, the original template renders.
    whole = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I see."}]
    assert tokenizer.apply_chat_template(whole, tokenize=False) == family_tokenizer(name).apply_chat_template(
        whole, tokenize=False
    )


def test_saved_template_has_the_arguments_of_its_training_as_defaults() -> None:
    opened = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    source = FAMILIES["qwen3_on"].template.replace("assistant\n{% endif", f"assistant\n{opened}{{% endif")
    off = {"enable_thinking": False}
    trained = ChatTemplate(small_tokenizer(source), arguments=off, history="as_sampled")
    tokenizer = small_tokenizer(trained.own_files["chat_template.jinja"])
    messages = answered(opening(), "I see.", "Yes.")
    for saved in (ChatTemplate(tokenizer), ChatTemplate(tokenizer, arguments=off)):
        assert saved.own_files == {}
        assert saved.prompt(messages) == trained.prompt(messages)
    assert str(tokenizer.decode(list(trained.prompt(messages)))).count("</think>") == 2
    # With thinking on, the prompt opens a thought; a reply that is known by its text must not be inside one.
    thinks = ChatTemplate(tokenizer, arguments={"enable_thinking": True})
    text = str(tokenizer.decode(list(thinks.prompt(messages))))
    assert text.endswith("assistant\n<think>\n")
    assert (text.count("<think>"), text.count("</think>")) == (1, 0)


def test_greeting_and_messages_in_a_row_are_left_to_the_template() -> None:
    name, template = "qwen3_off", as_sampled("qwen3_off")
    messages: list[Message] = [
        {"role": "system", "content": "Be kind."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "I lost my job."},
        {"role": "user", "content": "Today."},
        {"role": "assistant", "content": "I see."},
        {"role": "assistant", "content": "Go on."},
        {"role": "user", "content": "Yes."},
    ]
    # The greeting and the second message in a row were not prompted for: no empty thought before them.
    text = shown(name, template.prompt(messages))
    empty = "<think>\n\n</think>\n\n"
    assert text.count(empty) == 2
    assert f"assistant\n{empty}I see.<|im_end|>\n<|im_start|>assistant\nGo on.<|im_end|>" in text
    assert num_turns(name, template.prompt(messages)) == spoken_turns(name, messages)


def test_word_that_stands_for_a_reply_may_be_said() -> None:
    messages: list[Message] = [
        {"role": "system", "content": "Kept7Q0reply"},
        {"role": "user", "content": "Kept7Q0reply Hi7Q0"},
        {"role": "assistant", "content": "Kept7Q0reply"},
        {"role": "user", "content": "x Kept7Q0reply y"},
    ]
    text = shown("qwen3_off", as_sampled("qwen3_off").prompt(messages))
    assert text.count("Kept7Q0reply") == 4
    assert text.endswith("x Kept7Q0reply y<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_template_whose_text_cannot_be_told_from_messages_is_refused() -> None:
    source = FAMILIES["qwen3_off"].template.replace("else message.content", "else message.content | reverse")
    assert not ChatTemplate(small_tokenizer(source), path="/here").is_monotone
    with pytest.raises(EngineError, match=r"policy /here transforms messages.*rollout\.history=template"):
        ChatTemplate(small_tokenizer(source), path="/here", history="as_sampled")
