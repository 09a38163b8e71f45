"""Messages to token ids, turn by turn: sampled replies are never tokenized again.

Works with any Hugging Face chat template: its behaviour is found by rendering probes, not by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.chat.thinking import Spoken, split_thinking
from mica_ray.chat.thinking_marks import marks_with, template_tags
from mica_ray.error_lines import raised_as
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.appending import (
    History,
    appending_template,
    appends,
    reply_opening,
    rewriting_template,
)
from mica_ray.rollout.prompting.control_tokens import ControlTokens
from mica_ray.rollout.prompting.end_tokens import listed_end_tokens
from mica_ray.rollout.prompting.prompt_encoder import PromptEncoder
from mica_ray.rollout.prompting.rendering import PLAIN, Rendering, probe_dialogue
from mica_ray.rollout.prompting.turn_marks import forges_channels
from mica_ray.types import Generation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LAST_TOKENS = 32
"""Tokens at the end of a prompt that can contain the opening mark of a thought."""


class ChatTemplate:
    """A tokenizer's chat template, read incrementally.

    Consumes messages and sampled tokens, produces prompts. A template is monotone when the rendering of a
    longer history starts with the rendering of the shorter one and its reply. Templates that strip earlier
    thinking are not: with history "template", every prompt is then a new rendering of the whole history, and
    a dialogue cannot be trained as one sequence. With "as_sampled" each prompt is the one before, the sampled
    reply, and what the template renders after a reply; replies that are known only by their text are placed
    where sampled ones would be (prompting/appending.py). Monotone templates render the same either way.

    Only the template places control tokens: marks in the contents are encoded as plain text
    (rollout/prompting).

    Attributes:
        history: "as_sampled" also for a saved template that appends, whatever was asked for.
        is_monotone: whether each prompt extends the previous prompt and its reply.
        stop_ids: tokens that end a reply: end of sequence, the template's own end of turn, and those that the
            model folder lists for generation. vLLM reads that list too, so all engines stop alike.
        thinking_tags: names of the tags of thoughts that only this template has.
        marks: the marks of thoughts, those of the template included.
        has_special_marks: whether some marks are special tokens, which decoding usually drops.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        path: str | Path = "",
        arguments: Mapping[str, bool | int | str] | None = None,
        listed_ends: Collection[int] = (),
        history: History = "template",
    ) -> None:
        """Probe the template.

        Args:
            tokenizer: with a chat template and an end-of-sequence token.
            path: of the model, for error messages; the tokenizer's own name when empty.
            arguments: template variables other than the messages, such as enable_thinking.
            listed_ends: tokens that end a reply according to the model folder (`listed_end_tokens`).
            history: how a prompt contains earlier replies.

        Raises:
            EngineError: no chat template, no end-of-sequence token, or a template that cannot render a
                dialogue, or not with this history.
        """
        self._tokenizer = tokenizer
        self._arguments = dict(arguments or {})
        self._path = str(path) or str(tokenizer.name_or_path)
        if not tokenizer.chat_template:
            raise EngineError(
                f"The tokenizer of policy {self._path} has no chat template. Use an instruct model, or add "
                "chat_template.jinja to its folder."
            )
        if tokenizer.eos_token_id is None:
            raise EngineError(
                f"The tokenizer of policy {self._path} has no end-of-sequence token. Set eos_token in its "
                "tokenizer_config.json."
            )
        self.thinking_tags = template_tags(str(tokenizer.chat_template))
        self.marks = marks_with(self.thinking_tags)
        self._mark_ids = self._find_mark_ids()
        self.has_special_marks = bool(self._mark_ids)
        self._rendering = self._new_rendering(history)
        roles = ["system"] * self._rendering.takes_system + ["user", "assistant", "user"]
        self._encoder = PromptEncoder(
            ControlTokens(tokenizer), self._rendering.render, roles=roles, path=self._path, marks=self.marks
        )
        self._end_of_turn = self._find_end_of_turn()
        ends = (tokenizer.eos_token_id, self._end_of_turn)
        # gpt-oss ends each of its messages with one token, thoughts included, so that it cannot end a reply.
        stops = {token for token in ends if isinstance(token, int) and token not in self._mark_ids}
        self.stop_ids: tuple[int, ...] = tuple(sorted(stops.union(listed_ends)))

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        arguments: Mapping[str, bool | int | str] | None = None,
        *,
        history: History = "template",
    ) -> ChatTemplate:
        """Load the tokenizer of a folder or hub id.

        Args:
            path: of the model.
            arguments: template variables other than the messages.
            history: how a prompt contains earlier replies.

        Raises:
            EngineError: there is no tokenizer, or its chat template cannot render a dialogue.
        """
        from transformers import AutoTokenizer

        problem = f"The tokenizer of policy {path} cannot be loaded"
        remedy = "Download tokenizer.json and tokenizer_config.json again, or update transformers."
        with raised_as(EngineError, problem, remedy):
            tokenizer = AutoTokenizer.from_pretrained(path)
            ends = listed_end_tokens(path)
            return cls(tokenizer, path=path, arguments=arguments, listed_ends=ends, history=history)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer whose template this is."""
        return self._tokenizer

    @property
    def arguments(self) -> Mapping[str, bool | int | str]:
        """Template variables other than the messages."""
        return self._arguments

    @property
    def takes_system(self) -> bool:
        """Whether the template has a system role (`Rendering`)."""
        return self._rendering.takes_system

    @property
    def source(self) -> str:
        """The template as it is rendered: that of the tokenizer, or the one that appends to it."""
        return self._rendering.source

    @property
    def own_files(self) -> Mapping[str, str]:
        """Files of a saved policy, by name, with which other servers render history as here; {} for none."""
        is_stored = self.source == self._tokenizer.get_chat_template()
        return {} if is_stored else {"chat_template.jinja": self.source}

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt of the next reply to a history that ends with a user message."""
        return self._encoder.encode(self._rendering.merged(messages))

    def next_prompt(self, messages: Sequence[Message], last: Generation) -> tuple[int, ...]:
        """Return the prompt after a sampled reply and the user's answer to it.

        If prompts extend each other, this is last.prompt_ids + last.token_ids + suffix. The suffix closes the
        assistant's turn unless the policy closed it, then contains the new user message and the opening of
        the next reply. Otherwise it is `prompt(messages)`.

        A reply that contains turn marks before its end is trained as it was sampled, but no later prompt
        contains the marks: with history "as_sampled" the reply's text takes its place, otherwise this is
        `prompt(messages)`.

        Args:
            messages: the whole history; the last two are the sampled reply and the new user message.
            last: the reply as it was sampled.
        """
        if not self.is_monotone:
            return self.prompt(messages)
        if self._forges_turns(last):
            return self._without_forgery(messages, last)
        suffix = self._suffix(messages)
        # gpt-oss ends a reply with a token of its own instead of the end of turn.
        ends = (self._end_of_turn,) if self._end_of_turn in self.stop_ids else self.stop_ids
        is_closed = suffix[:1] == (self._end_of_turn,) and bool(last.token_ids) and last.token_ids[-1] in ends
        return (*last.prompt_ids, *last.token_ids, *(suffix[1:] if is_closed else suffix))

    def text(self, token_ids: Sequence[int]) -> str:
        """Decode a reply without its special tokens, except for the marks of thoughts."""
        if self._mark_ids.keys().isdisjoint(token_ids):
            return self._decode(token_ids)
        parts: list[str] = []
        begin = 0
        for place, token in enumerate(token_ids):
            if token in self._mark_ids:
                parts += [self._decode(token_ids[begin:place]), self._mark_ids[token]]
                begin = place + 1
        return "".join([*parts, self._decode(token_ids[begin:])])

    def spoken(self, generation: Generation) -> Spoken:
        """Split a sampled reply into what was said and the thoughts before it.

        Raises:
            UnclosedThoughtError: the reply ends inside a thought.
        """
        is_open = self.opens_thought(generation.prompt_ids)
        return split_thinking(self._with_marks(generation), is_open=is_open, marks=self.marks)

    @property
    def highest_token(self) -> int:
        """The highest token that text can become: special tokens may have no embedding, if none is used."""
        added = self._tokenizer.added_tokens_decoder.items()
        plain = [index for index, token in added if not token.special]
        return max((self._tokenizer.vocab_size - 1, *plain))

    def opens_thought(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt ends inside an opened thought that the reply continues."""
        end = str(self._tokenizer.decode(list(prompt_ids[-_LAST_TOKENS:]), skip_special_tokens=False))
        return self.marks.is_open_at_end(end)

    def _with_marks(self, generation: Generation) -> str:
        """Return the reply's text, with the marks that an engine's decoding dropped."""
        if self._mark_ids.keys().isdisjoint(generation.token_ids):
            return generation.text
        text, plain = self.text(generation.token_ids), self._decode(generation.token_ids)
        # A stop string cuts the text but not the tokens.
        num_cut = len(plain) - len(generation.text) if plain.startswith(generation.text) else 0
        return text[: len(text) - num_cut]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def escaped(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages for a server that renders them itself: with all control marks broken."""
        return self._encoder.escaped(messages)

    def spells_marks(self, text: str) -> bool:
        """Whether a text contains a control mark of this tokenizer or template."""
        return self._encoder.spells_marks(text)

    def _new_rendering(self, history: History) -> Rendering:
        """Return the template that renders prompts; set `history` and `is_monotone`."""
        stored = str(self._tokenizer.get_chat_template())
        self.history: History = "as_sampled" if appends(stored) else history
        # A stored one that appends is made again: other arguments may change what comes before a reply.
        rendering = Rendering(
            self._tokenizer, path=self._path, arguments=self._arguments, source=rewriting_template(stored)
        )
        self.is_monotone = rendering.only_appends()
        if self.is_monotone or self.history == "template":
            return rendering
        source = appending_template(rendering, self.marks, path=self._path, arguments=self._arguments)
        self.is_monotone = True
        return Rendering(self._tokenizer, path=self._path, arguments=self._arguments, source=source)

    def _forges_turns(self, last: Generation) -> bool:
        """Whether a sampled reply contains marks that begin or end turns besides the one that ended it."""
        if self._encoder.forges_turns(last, self.stop_ids):
            return True
        return "<|channel|>" in self._mark_ids.values() and forges_channels(self._with_marks(last))

    def _without_forgery(self, messages: Sequence[Message], last: Generation) -> tuple[int, ...]:
        """Return the prompt after a reply with turn marks, which does not contain them."""
        if self.history == "template" or not self._takes_text:
            return self.prompt(messages)
        said = self._encoder.plain(messages[-2]["content"], after=last.prompt_ids)
        return (*last.prompt_ids, *said, *self._suffix(messages))

    @cached_property
    def _takes_text(self) -> bool:
        """Whether a reply that is known by its text can follow its prompt directly."""
        return reply_opening(self._rendering, self.marks, path=self._path) == ("", "")

    def _suffix(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return what follows the last reply: the template's markup and the last user message."""
        history = self._rendering.merged(messages)
        return self._encoder.encode(history, after=len(history) - 2)

    def _find_end_of_turn(self) -> int | None:
        """Return the special token that closes a reply; None for plain text."""
        suffix = self._suffix(probe_dialogue(PLAIN[:1]))
        return suffix[0] if suffix and suffix[0] in self._special_ids() else None

    def _find_mark_ids(self) -> Mapping[int, str]:
        """Return the special tokens that are marks of thoughts, each with its text."""
        special = {index: str(self._tokenizer.convert_ids_to_tokens(index)) for index in self._special_ids()}
        names = frozenset(special.values())
        ends = (self._tokenizer.eos_token_id,)
        return {i: text for i, text in special.items() if i not in ends and self.marks.is_mark(text, names)}

    def _special_ids(self) -> set[int]:
        added = self._tokenizer.added_tokens_decoder.items()
        return {index for index, token in added if token.special} | set(self._tokenizer.all_special_ids)
