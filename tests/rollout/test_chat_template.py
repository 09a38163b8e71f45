"""Tokens in, tokens out, over the families of chat templates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.types import Generation, Message
from tests.small_policy import (
    CHATML,
    CHATML_DEFAULT_SYSTEM,
    GEMMA,
    LLAMA3,
    MISTRAL,
    MISTRAL_FIRST,
    PLAIN_TEXT,
    THINKING,
    small_tokenizer,
    token_id,
)

# Template, end-of-sequence token, the token that ends a reply.
FAMILIES = {
    "chatml": (CHATML, "<|im_end|>", "<|im_end|>"),
    "chatml_default_system": (CHATML_DEFAULT_SYSTEM, "<|endoftext|>", "<|im_end|>"),
    "llama3": (LLAMA3, "<|endoftext|>", "<|eot_id|>"),
    "gemma": (GEMMA, "<|endoftext|>", "<end_of_turn>"),
    "mistral": (MISTRAL_FIRST, "<|endoftext|>", "<|endoftext|>"),
}


def family(name: str) -> ChatTemplate:
    template, eos, _ = FAMILIES[name]
    return ChatTemplate(small_tokenizer(template, eos=eos))


def sampled(prompt_ids: tuple[int, ...], token_ids: tuple[int, ...], text: str) -> Generation:
    return Generation(prompt_ids, token_ids, (0.0,) * len(token_ids), text, "stop", 0)


def opening() -> list[Message]:
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "I lost my job."}]


@pytest.mark.parametrize("name", FAMILIES)
def test_continued_prompt_equals_fresh_rendering_when_reply_closed_itself(name: str) -> None:
    template, tokenizer = family(name), small_tokenizer(*FAMILIES[name][:1], eos=FAMILIES[name][1])
    messages, prompt = opening(), family(name).prompt(opening())
    for reply, user in (("That is heavy.", "Yes."), ("Tell me more.", "I did.")):
        content = f" {reply}" if name == "mistral" else reply  # Its template inserts a space before a reply.
        tokens = (
            *tokenizer.encode(content, add_special_tokens=False),
            token_id(FAMILIES[name][2]),
        )
        messages = [*messages, {"role": "assistant", "content": reply}, {"role": "user", "content": user}]
        prompt = template.next_prompt(messages, sampled(prompt, tokens, reply))
        assert prompt == template.prompt(messages)


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_turns_keep_every_sampled_token_in_place(name: str) -> None:
    # No tokenizer would produce these tokens for their text: single bytes, some of them not decodable.
    template = family(name)
    assert template.is_monotone
    messages, prompt, spans = opening(), template.prompt(opening()), []
    for turn in range(10):
        tokens = tuple(range(20 + turn, 40 + turn, 3))
        spans.append((len(prompt), tokens))
        messages.append({"role": "assistant", "content": template.text(tokens)})
        messages.append({"role": "user", "content": f"Turn {turn}."})
        longer = template.next_prompt(messages, sampled(prompt, tokens, template.text(tokens)))
        assert longer[: len(prompt) + len(tokens)] == prompt + tokens
        prompt = longer
    assert [prompt[start : start + len(tokens)] for start, tokens in spans] == [tokens for _, tokens in spans]


@pytest.mark.parametrize("name", FAMILIES)
def test_cut_off_reply_is_closed_by_the_prompt(name: str) -> None:
    template = family(name)
    end = token_id(FAMILIES[name][2])
    prompt = template.prompt(opening())
    messages: list[Message] = [
        *opening(),
        {"role": "assistant", "content": "abc"},
        {"role": "user", "content": "And?"},
    ]
    cut = template.next_prompt(messages, sampled(prompt, (70, 71), "abc"))
    closed = template.next_prompt(messages, sampled(prompt, (70, 71, end), "abc"))
    assert cut == closed


@pytest.mark.parametrize("name", FAMILIES)
def test_end_of_turn_stops_a_reply(name: str) -> None:
    _, eos, end = FAMILIES[name]
    assert set(family(name).stop_ids) == {token_id(eos), token_id(end)}


def test_template_without_system_role_keeps_the_system_prompt() -> None:
    template = family("gemma")
    assert not template.takes_system
    tokenizer = small_tokenizer()
    assert "user\nBe kind.\n\nI lost my job." in tokenizer.decode(list(template.prompt(opening())))


@pytest.mark.parametrize("source", [THINKING, MISTRAL], ids=["strips thinking", "moves the system prompt"])
def test_template_that_rewrites_history_is_rendered_afresh(source: str) -> None:
    template = ChatTemplate(small_tokenizer(source, eos="<|endoftext|>"))
    assert not template.is_monotone
    messages: list[Message] = [
        *opening(),
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nI see."},
        {"role": "user", "content": "Well?"},
    ]
    last = sampled(template.prompt(opening()), (70, 71), "I see.")
    assert template.next_prompt(messages, last) == template.prompt(messages)


@pytest.mark.parametrize("thinks", [True, False])
def test_template_reads_the_variables_it_is_given(thinks: bool) -> None:
    # As in Qwen3: without thinking, the prompt opens the reply with an empty thought.
    source = CHATML.replace(
        "<|im_start|>assistant\n",
        "<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
    )
    tokenizer = small_tokenizer(source)
    template = ChatTemplate(tokenizer, arguments={} if thinks else {"enable_thinking": False})
    prompt = str(tokenizer.decode(list(template.prompt(opening()))))
    assert prompt.endswith("assistant\n" if thinks else "</think>\n\n")
    # A later rendering of the same history has no empty thought, so prompts do not extend each other.
    assert template.is_monotone is thinks


def test_template_of_plain_text_has_only_the_end_of_sequence_to_stop_at() -> None:
    template = ChatTemplate(small_tokenizer(PLAIN_TEXT, eos="<|endoftext|>"))
    assert template.is_monotone
    assert template.stop_ids == (token_id("<|endoftext|>"),)


@given(reply=st.text(max_size=20), user=st.text(max_size=20), name=st.sampled_from(sorted(FAMILIES)))
@settings(deadline=None, max_examples=40)
def test_next_prompt_begins_with_prompt_and_reply_whatever_was_said(reply: str, user: str, name: str) -> None:
    template = family(name)
    prompt, tokens = template.prompt(opening()), (90, 45, 33)
    messages: list[Message] = [
        *opening(),
        {"role": "assistant", "content": reply},
        {"role": "user", "content": user},
    ]
    assert (
        template.next_prompt(messages, sampled(prompt, tokens, reply))[: len(prompt) + 3] == prompt + tokens
    )


def test_tokenizer_without_template_is_refused_by_its_path() -> None:
    with pytest.raises(EngineError, match=r"policy /somewhere has no chat template\. Use an instruct model"):
        ChatTemplate(small_tokenizer(None), path="/somewhere")


def test_tokenizer_without_end_is_refused_by_its_path() -> None:
    with pytest.raises(EngineError, match=r"policy /somewhere has no end-of-sequence token\. Set eos_token"):
        ChatTemplate(small_tokenizer(eos=None), path="/somewhere")


def test_folder_without_tokenizer_is_refused_by_its_path(tmp_path) -> None:
    with pytest.raises(EngineError, match=f"tokenizer of policy {tmp_path} cannot be loaded"):
        ChatTemplate.from_folder(tmp_path)


def test_template_that_drops_replies_is_refused() -> None:
    source = (
        "{% for message in messages %}{% if message.role == 'user' %}"
        "[INST]{{ message.content }}{% endif %}{% endfor %}"
    )
    with pytest.raises(EngineError, match="drops the assistant's replies"):
        ChatTemplate(small_tokenizer(source))
