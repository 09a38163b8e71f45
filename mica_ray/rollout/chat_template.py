"""Messages to token ids, turn by turn: what the policy sampled is kept as tokens and never tokenised again.

Works with any Hugging Face chat template by rendering it; what a template does is found by asking it, not by
its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.chat.thinking import OPENINGS
from mica_ray.rollout.engine import EngineError
from mica_ray.types import Generation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Words no dialogue contains; without white space, so that a template that trims its contents leaves them
# whole.
_REPLY = "Reply7Q0placeholder"
_SYSTEM = "System7Q0probe"
_PLAIN = ("Yes7Q0.", "No7Q0.")
_LAST_TOKENS = 16
"""Of a prompt, in which a template opens the thought; no tokenizer writes its mark in more."""
_THINKING = ("<think>\nfirst7Q0\n</think>\n\nYes7Q0.", "<think>\nsecond7Q0\n</think>\n\nNo7Q0.")


class ChatTemplate:
    """A tokenizer's chat template, read incrementally.

    Consumes messages and sampled tokens, produces prompts. A template is monotone when rendering a longer
    history begins with the rendering of the shorter one and its reply; some are not (those that strip earlier
    thinking). Then every prompt is a fresh rendering of the whole history, and a dialogue cannot be trained
    as one sequence.

    Attributes:
        is_monotone: whether each prompt extends the one before and the reply to it.
        stop_ids: tokens that end a reply: end of sequence, and the template's own end of turn.
        takes_system: whether the template has a system role. Without one, the system message opens the first
            user message.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        path: str | Path = "",
        arguments: Mapping[str, bool | int | str] | None = None,
    ) -> None:
        """Probe the template.

        Args:
            tokenizer: with a chat template and an end-of-sequence token.
            path: where it came from, for messages; the tokenizer's own name when empty.
            arguments: variables that the template reads beside the messages, such as enable_thinking.

        Raises:
            EngineError: no chat template, no end-of-sequence token, or a template that cannot render a
                dialogue.
        """
        self._tokenizer = tokenizer
        self._arguments = dict(arguments or {})
        self._path = str(path) or str(tokenizer.name_or_path)
        if not tokenizer.chat_template:
            raise EngineError(
                f"policy {self._path}: its tokenizer has no chat template; "
                "use an instruct model, or add chat_template.jinja to the folder"
            )
        if tokenizer.eos_token_id is None:
            raise EngineError(
                f"policy {self._path}: its tokenizer has no end-of-sequence token; "
                "set eos_token in tokenizer_config.json"
            )
        self.takes_system = self._takes_system()
        self._end_of_turn = self._find_end_of_turn()
        ends = (tokenizer.eos_token_id, self._end_of_turn)
        self.stop_ids: tuple[int, ...] = tuple(sorted({token for token in ends if isinstance(token, int)}))
        self.is_monotone = self._extends(_PLAIN) and self._extends(_THINKING)

    @classmethod
    def from_folder(
        cls, path: str | Path, arguments: Mapping[str, bool | int | str] | None = None
    ) -> ChatTemplate:
        """Load the tokenizer of a folder or hub id.

        Args:
            path: of the model.
            arguments: variables that the template reads beside the messages.

        Raises:
            EngineError: there is no tokenizer, or it cannot serve a dialogue.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EngineError(
                f"policy {path}: no tokenizer loads from there; "
                "put tokenizer.json and tokenizer_config.json beside the weights"
            ) from error
        return cls(tokenizer, path=path, arguments=arguments)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Render a history that ends with a user message into the prompt of the next reply."""
        return self._tokens(self._render(messages))

    def next_prompt(self, messages: Sequence[Message], last: Generation) -> tuple[int, ...]:
        """Give the prompt after a sampled reply and the user's answer to it.

        A monotone template gives last.prompt_ids + last.token_ids + suffix, where the suffix closes the
        assistant's turn unless the policy did, and holds the new user message and the opening of the next
        reply. Others give `prompt(messages)`.

        Args:
            messages: the whole history; the last two are the sampled reply and the new user message.
            last: the reply as it was sampled.
        """
        if not self.is_monotone:
            return self.prompt(messages)
        suffix = self._tokens(self._tail(messages))
        is_closed = (
            bool(suffix) and bool(last.token_ids) and last.token_ids[-1] == suffix[0] == self._end_of_turn
        )
        return (*last.prompt_ids, *last.token_ids, *(suffix[1:] if is_closed else suffix))

    def text(self, token_ids: Sequence[int]) -> str:
        """Decode a reply, without its special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def opens_thought(self, prompt_ids: Sequence[int]) -> bool:
        """Say whether a prompt ends inside a thought, with which the reply goes on."""
        return self.text(prompt_ids[-_LAST_TOKENS:]).rstrip().endswith(OPENINGS)

    def _tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _render(self, messages: Sequence[Message]) -> str:
        history = list(messages)
        if not self.takes_system and len(history) > 1 and history[0]["role"] == "system":
            merged = f"{history[0]['content']}\n\n{history[1]['content']}"
            history[:2] = [{"role": "user", "content": merged}]
        return self._render_plain(history)

    def _render_plain(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        options: dict[str, Any] = {**self._arguments, "tokenize": False, "add_generation_prompt": True}
        try:
            rendered = self._tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in messages],
                **options,
            )
        except TemplateError as error:
            raise EngineError(
                f"policy {self._path}: its chat template refuses a dialogue: {error}"
            ) from error
        return str(rendered)

    def _tail(self, messages: Sequence[Message]) -> str:
        """Give what follows the last reply: all that the template adds, and the last user message."""
        marked: list[Message] = [*messages[:-2], {"role": "assistant", "content": _REPLY}, messages[-1]]
        _, found, tail = self._render(marked).partition(_REPLY)
        if not found:
            raise EngineError(
                f"policy {self._path}: its chat template drops the assistant's replies; use another"
            )
        return tail

    def _takes_system(self) -> bool:
        try:
            text = self._render_plain(
                [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "Hi"}]
            )
        except EngineError:
            return False
        return _SYSTEM in text

    def _find_end_of_turn(self) -> int | None:
        """Give the special token with which the template closes a reply, None when it uses plain text."""
        suffix = self._tokens(self._tail(_history(_PLAIN[:1])))
        return suffix[0] if suffix and suffix[0] in self._special_ids() else None

    def _special_ids(self) -> set[int]:
        added = self._tokenizer.added_tokens_decoder.items()
        return {index for index, token in added if token.special} | set(self._tokenizer.all_special_ids)

    def _extends(self, replies: Sequence[str]) -> bool:
        """Whether each rendering begins with the one before and the reply to it, as text."""
        renderings = [self._render(_history(replies[:count])) for count in range(len(replies) + 1)]
        # Some templates put a space before a reply; the policy samples it with its first word.
        return all(
            longer.startswith(shorter) and longer[len(shorter) :].lstrip().startswith(reply)
            for shorter, longer, reply in zip(renderings[:-1], renderings[1:], replies, strict=True)
        )


def _history(replies: Sequence[str]) -> list[Message]:
    """A dialogue with these replies that waits for one more."""
    messages: list[Message] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "Hi7Q0"}]
    for reply in replies:
        messages.append({"role": "assistant", "content": reply})
        messages.append({"role": "user", "content": "And7Q0?"})
    return messages
