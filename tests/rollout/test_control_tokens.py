"""Which tokens of a tokenizer only the template may place."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.prompting.control_tokens import ControlTokens
from tests.small_policy import CHATML, SPECIAL, small_tokenizer


def test_added_tokens_are_control_tokens_if_they_are_special_in_brackets_or_printed_by_the_template() -> None:
    template = "### hello\n\n\n{% raw %}~~{% endraw %} two words" + CHATML
    tokenizer = small_tokenizer(template)
    added = ("<tool_call>", "[ARGS]", "###", "~~", "hello", "\n\n\n", "two words", "@@", "<>", "good_bye")
    tokenizer.add_tokens([AddedToken(text, special=False) for text in added])
    found = set(ControlTokens(tokenizer).texts.values()) - set(SPECIAL)
    # Not: a word or blanks that the template prints, what it does not print, brackets around nothing.
    assert found == {"<tool_call>", "[ARGS]", "###", "~~", "two words"}


def test_token_of_unknown_characters_is_no_control_token() -> None:
    words = ("<unk>", "<|im_start|>", "<|im_end|>", "hello", "user", "assistant")
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = CHATML
    assert ControlTokens(fast).texts == {1: "<|im_start|>", 2: "<|im_end|>"}
    # A content of unknown words adds no mark, and is kept.
    template = ChatTemplate(fast)
    assert template.prompt([{"role": "user", "content": "héllo hello"}]) == (1, 4, 0, 3, 2, 1, 5)


def test_arguments_of_a_folder_reach_its_template(tmp_path: Path) -> None:
    opening = "<|im_start|>assistant\n"
    small_tokenizer(CHATML.replace(opening, opening + "({{ mood }}) ")).save_pretrained(tmp_path)
    template = ChatTemplate.from_folder(tmp_path, {"mood": "calm"})
    assert template.arguments == {"mood": "calm"}
    prompt = template.tokenizer.decode(list(template.prompt([{"role": "user", "content": "Hi"}])))
    assert str(prompt).endswith("assistant\n(calm) ")
