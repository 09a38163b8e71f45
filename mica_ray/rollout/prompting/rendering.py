"""Messages as the text that a chat template makes of them, and what probes show about the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from mica_ray.rollout.engine import EngineError
from mica_ray.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Words that no dialogue contains, without white space, so that a template that trims contents keeps them.
SYSTEM, USER, NEXT_USER = "System7Q0probe", "Hi7Q0", "And7Q0?"
PLAIN = ("Yes7Q0.", "No7Q0.")
THINKING = ("<think>\nfirst7Q0\n</think>\n\nYes7Q0.", "<think>\nsecond7Q0\n</think>\n\nNo7Q0.")


class Rendering:
    """A chat template, applied to messages.

    Args:
        tokenizer: whose settings and special tokens the template uses.
        path: of the model, for error messages.
        arguments: template variables other than the messages.
        source: the template.

    Attributes:
        source: the template's text.
        takes_system: whether the template has a system role. Without one, the system message is prepended to
            the first user message, or becomes a user message before the assistant's greeting.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        path: str,
        arguments: Mapping[str, bool | int | str],
        source: str,
    ) -> None:
        self._tokenizer, self._path, self._arguments = tokenizer, path, arguments
        self.source = source
        self.takes_system = self._takes_system()

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text of a prompt for the next reply.

        Raises:
            EngineError: the template cannot render the messages.
        """
        from jinja2 import TemplateError

        options: dict[str, Any] = {
            **self._arguments,
            "chat_template": self.source,
            "tokenize": False,
            "add_generation_prompt": True,
        }
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

    def merged(self, messages: Sequence[Message]) -> list[Message]:
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

    def only_appends(self) -> bool:
        """Whether a longer history's text starts with the text of the shorter one and its reply."""
        return self._extends(PLAIN) and self._extends(THINKING)

    def _takes_system(self) -> bool:
        try:
            text = self.render([{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hi"}])
        except EngineError:
            return False
        return SYSTEM in text

    def _extends(self, replies: Sequence[str]) -> bool:
        renderings = [
            self.render(self.merged(probe_dialogue(replies[:count]))) for count in range(len(replies) + 1)
        ]
        # Some templates insert a space before a reply; the policy samples it as part of its first word.
        return all(
            longer.startswith(shorter) and longer[len(shorter) :].lstrip().startswith(reply)
            for shorter, longer, reply in zip(renderings[:-1], renderings[1:], replies, strict=True)
        )


def probe_dialogue(replies: Sequence[str]) -> list[Message]:
    """Return a dialogue with these replies that ends with a user message."""
    messages: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    for reply in replies:
        messages.append({"role": "assistant", "content": reply})
        messages.append({"role": "user", "content": NEXT_USER})
    return messages
