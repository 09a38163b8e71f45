"""Messages to token ids, turn by turn: sampled replies are never tokenized again.

Works with any Hugging Face chat template: its behaviour is found by rendering probes, not by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.chat.thinking import Spoken, split_thinking
from mica_ray.chat.thinking_marks import marks_with, template_tags
from mica_ray.error_lines import raised_as
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.control_tokens import ControlTokens
from mica_ray.rollout.prompting.prompt_encoder import PromptEncoder
from mica_ray.types import Generation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Words that no dialogue contains, without white space, so that a template that trims contents keeps them.
_SYSTEM = "System7Q0probe"
_PLAIN = ("Yes7Q0.", "No7Q0.")
_LAST_TOKENS = 32
"""Tokens at the end of a prompt that can contain the opening mark of a thought."""
_THINKING = ("<think>\nfirst7Q0\n</think>\n\nYes7Q0.", "<think>\nsecond7Q0\n</think>\n\nNo7Q0.")


class ChatTemplate:
    """A tokenizer's chat template, read incrementally.

    Consumes messages and sampled tokens, produces prompts. A template is monotone when the rendering of a
    longer history starts with the rendering of the shorter one and its reply. Templates that strip earlier
    thinking are not: every prompt is then a new rendering of the whole history, and a dialogue cannot be
    trained as one sequence.

    Only the template places control tokens: marks in the contents are encoded as plain text
    (rollout/prompting).

    Attributes:
        is_monotone: whether each prompt extends the previous prompt and its reply.
        stop_ids: tokens that end a reply: end of sequence, the template's own end of turn, and those that the
            model folder lists for generation. vLLM reads that list too, so all engines stop alike.
        takes_system: whether the template has a system role. Without one, the system message is prepended to
            the first user message, or becomes a user message before the assistant's greeting.
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
    ) -> None:
        """Probe the template.

        Args:
            tokenizer: with a chat template and an end-of-sequence token.
            path: of the model, for error messages; the tokenizer's own name when empty.
            arguments: template variables other than the messages, such as enable_thinking.
            listed_ends: tokens that end a reply according to the model folder (`listed_end_tokens`).

        Raises:
            EngineError: no chat template, no end-of-sequence token, or a template that cannot render a
                dialogue.
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
        self.takes_system = self._takes_system()
        roles = ["system"] * self.takes_system + ["user", "assistant", "user"]
        self._encoder = PromptEncoder(
            ControlTokens(tokenizer), self._render_plain, roles=roles, path=self._path, marks=self.marks
        )
        self._end_of_turn = self._find_end_of_turn()
        ends = (tokenizer.eos_token_id, self._end_of_turn)
        # gpt-oss ends each of its messages with one token, thoughts included, so that it cannot end a reply.
        stops = {token for token in ends if isinstance(token, int) and token not in self._mark_ids}
        self.stop_ids: tuple[int, ...] = tuple(sorted(stops.union(listed_ends)))
        self.is_monotone = self._extends(_PLAIN) and self._extends(_THINKING)

    @classmethod
    def from_folder(
        cls, path: str | Path, arguments: Mapping[str, bool | int | str] | None = None
    ) -> ChatTemplate:
        """Load the tokenizer of a folder or hub id.

        Args:
            path: of the model.
            arguments: template variables other than the messages.

        Raises:
            EngineError: there is no tokenizer, or its chat template cannot render a dialogue.
        """
        from transformers import AutoTokenizer

        problem = f"The tokenizer of policy {path} cannot be loaded"
        remedy = "Download tokenizer.json and tokenizer_config.json again, or update transformers."
        with raised_as(EngineError, problem, remedy):
            tokenizer = AutoTokenizer.from_pretrained(path)
            return cls(tokenizer, path=path, arguments=arguments, listed_ends=listed_end_tokens(path))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer whose template this is."""
        return self._tokenizer

    @property
    def arguments(self) -> Mapping[str, bool | int | str]:
        """Template variables other than the messages."""
        return self._arguments

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt of the next reply to a history that ends with a user message."""
        return self._encoder.encode(self._merged(messages))

    def next_prompt(self, messages: Sequence[Message], last: Generation) -> tuple[int, ...]:
        """Return the prompt after a sampled reply and the user's answer to it.

        For a monotone template this is last.prompt_ids + last.token_ids + suffix. The suffix closes the
        assistant's turn unless the policy closed it, then contains the new user message and the opening of
        the next reply. For other templates it is `prompt(messages)`, and so it is after a reply that contains
        turn marks before its end: the forged turns are trained as they were sampled, but no later prompt
        contains them.

        Args:
            messages: the whole history; the last two are the sampled reply and the new user message.
            last: the reply as it was sampled.
        """
        if not self.is_monotone or self._encoder.forges_turns(last, self.stop_ids):
            return self.prompt(messages)
        suffix = self._suffix(messages)
        is_closed = (
            bool(suffix) and bool(last.token_ids) and last.token_ids[-1] == suffix[0] == self._end_of_turn
        )
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

    def _merged(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages without system messages at the start, if the template has no system role."""
        history = list(messages)
        rest = list(dropwhile(lambda message: message["role"] == "system", history))
        if self.takes_system or len(rest) == len(history) or len(history) < 2:
            return history
        system = "\n\n".join(message["content"] for message in history[: len(history) - len(rest)])
        if rest and rest[0]["role"] == "user":
            return [{"role": "user", "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
        # In front of a greeting: the assistant did not say it, and most templates begin with the user.
        return [{"role": "user", "content": system}, *rest]

    def _suffix(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return what follows the last reply: the template's markup and the last user message."""
        history = self._merged(messages)
        return self._encoder.encode(history, after=len(history) - 2)

    def _render(self, messages: Sequence[Message]) -> str:
        return self._render_plain(self._merged(messages))

    def _render_plain(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        options: dict[str, Any] = {**self._arguments, "tokenize": False, "add_generation_prompt": True}
        try:
            rendered = self._tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in messages],
                **options,
            )
        except TemplateError as error:
            reason = " ".join(str(error).split())
            raise EngineError(
                f"The chat template of policy {self._path} cannot render a dialogue ({reason}). Use another "
                "model, or another chat_template.jinja."
            ) from error
        return str(rendered)

    def _takes_system(self) -> bool:
        try:
            text = self._render_plain(
                [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "Hi"}]
            )
        except EngineError:
            return False
        return _SYSTEM in text

    def _find_end_of_turn(self) -> int | None:
        """Return the special token that closes a reply; None for plain text."""
        suffix = self._suffix(_history(_PLAIN[:1]))
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

    def _extends(self, replies: Sequence[str]) -> bool:
        """Whether each rendering starts, as text, with the previous one and its reply."""
        renderings = [self._render(_history(replies[:count])) for count in range(len(replies) + 1)]
        # Some templates insert a space before a reply; the policy samples it as part of its first word.
        return all(
            longer.startswith(shorter) and longer[len(shorter) :].lstrip().startswith(reply)
            for shorter, longer, reply in zip(renderings[:-1], renderings[1:], replies, strict=True)
        )


def listed_end_tokens(path: str | Path) -> frozenset[int]:
    """Return the end tokens of a model folder or hub id for generation.

    Read as vLLM does: eos_token_id, a number or a list, of generation_config.json, or of config.json without
    one. Empty if neither lists any.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        ends: object = GenerationConfig.from_pretrained(path).eos_token_id
    except (OSError, ValueError, TypeError):
        try:
            model = AutoConfig.from_pretrained(path)
            ends = GenerationConfig.from_model_config(model).eos_token_id
        except (OSError, ValueError, TypeError, KeyError):  # Loading the weights names what is wrong.
            return frozenset()
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in listed if isinstance(token, int))


def _history(replies: Sequence[str]) -> list[Message]:
    """Return a dialogue with these replies that ends with a user message."""
    messages: list[Message] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "Hi7Q0"}]
    for reply in replies:
        messages.append({"role": "assistant", "content": reply})
        messages.append({"role": "user", "content": "And7Q0?"})
    return messages
