"""What a sampled reply says: marks that are special tokens, thoughts that the template opened."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mica_ray.chat.thinking import Spoken, UnclosedThoughtError
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.types import Generation
from tests.small_policy import CHATML, small_tokenizer

HARMONY = (
    "{% for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
HARMONY_TOKENS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
FAMILIES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "harmony": (
        HARMONY_TOKENS,
        HARMONY,
        "<|channel|>analysis<|message|>A loss.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>That hurts.",
    ),
    "mistral": (("[THINK]", "[/THINK]"), CHATML, "[THINK]A loss.[/THINK]That hurts."),
    "command": (
        ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        CHATML,
        "<|START_THINKING|>A loss.<|END_THINKING|><|START_RESPONSE|>That hurts.<|END_RESPONSE|>",
    ),
    "apertus": (
        ("<|inner_prefix|>", "<|inner_suffix|>"),
        CHATML,
        "<|inner_prefix|>A loss.<|inner_suffix|>That hurts.",
    ),
    "gemma": (("<|channel>", "<channel|>"), CHATML, "<|channel>thought\nA loss.<channel|>That hurts."),
    "special think": (("<think>", "</think>"), CHATML, "<think>\nA loss.\n</think>\n\nThat hurts."),
    "kimi": (("◁think▷", "◁/think▷"), CHATML, "◁think▷A loss.◁/think▷That hurts."),
    "template": (
        ("<musing>", "</musing>"),
        CHATML + "{# content.split('</musing>') #}",
        "<musing>A loss.</musing>That hurts.",
    ),
}


def template_of(family: str) -> tuple[ChatTemplate, list[int], str]:
    """The template of a family, and its reply as tokens and as an engine's text without special tokens."""
    special, source, reply = FAMILIES[family]
    tokenizer = small_tokenizer(source, eos="<|return|>" if "<|return|>" in special else "<|im_end|>")
    tokenizer.add_tokens(list(special), special_tokens=True)
    ids = tokenizer.encode(reply, add_special_tokens=False)
    return ChatTemplate(tokenizer), ids, str(tokenizer.decode(ids, skip_special_tokens=True))


def sampled(ids: Sequence[int], text: str, prompt_ids: Sequence[int] = (1,)) -> Generation:
    return Generation(tuple(prompt_ids), tuple(ids), (0.0,) * len(ids), text, "stop", 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_marks_that_are_special_tokens_are_found(family: str) -> None:
    template, ids, text = template_of(family)
    assert template.has_special_marks and "[/THINK]" not in text and "<" not in text
    assert template.spoken(sampled(ids, text)) == Spoken("That hurts.", "A loss.")
    # The in-process engine decodes with the template.
    assert template.spoken(sampled(ids, template.text(ids))) == Spoken("That hurts.", "A loss.")


@pytest.mark.parametrize("family", FAMILIES)
def test_unfinished_thought_between_special_tokens_is_an_error(family: str) -> None:
    template, ids, _ = template_of(family)
    begun = ids[: len(ids) // 3]
    with pytest.raises(UnclosedThoughtError):
        template.spoken(sampled(begun, template.text(begun)))


def test_stop_string_still_ends_a_reply_with_special_marks() -> None:
    template, ids, text = template_of("mistral")
    cut = text[: text.index("hurts")]
    assert template.spoken(sampled(ids, cut)) == Spoken("That ", "A loss.")


def test_reply_without_marks_keeps_its_text() -> None:
    template = ChatTemplate(small_tokenizer())
    assert not template.has_special_marks
    assert template.spoken(sampled((20, 21), " any text\n")) == Spoken(" any text\n")


@pytest.mark.parametrize("mark", ["<think>", "[THINK]", "<|START_THINKING|>", "◁think▷", "<musing>"])
@pytest.mark.parametrize("is_special", [False, True])
def test_template_that_opens_a_thought_is_recognized(mark: str, is_special: bool) -> None:
    source = CHATML.replace("assistant\n{% endif %}", f"assistant\n{mark}\n{{% endif %}}")
    tokenizer = small_tokenizer(source + "{# content.split('</musing>') #}")
    if is_special:
        tokenizer.add_tokens([mark], special_tokens=True)
    template = ChatTemplate(tokenizer)
    prompt_ids = template.prompt([{"role": "user", "content": "Hi"}])
    assert template.opens_thought(prompt_ids)
    with pytest.raises(UnclosedThoughtError):
        template.spoken(sampled((20,), "A loss", prompt_ids))
    # A person's mark at the end of a message opens nothing.
    plain = ChatTemplate(small_tokenizer(CHATML))
    assert not plain.opens_thought(plain.prompt([{"role": "user", "content": f"I wrote {mark}"}]))


def test_end_of_a_harmony_thought_does_not_end_the_reply() -> None:
    template, ids, _ = template_of("harmony")
    (end,) = [token for token in ids if template.text((token,)) == "<|end|>"]
    assert end not in template.stop_ids and len(template.stop_ids) == 1
