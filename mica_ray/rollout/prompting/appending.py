"""A chat template that keeps earlier turns as they were sampled, made from one that rewrites them.

The new template is text: it can be saved with a policy, so that other servers keep the history too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal

from mica_ray.chat.thinking_marks import Marks
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.prompting.rendering import NEXT_USER, PLAIN, SYSTEM, USER, Rendering, probe_dialogue
from mica_ray.types import Message

History = Literal["template", "as_sampled"]
"""How a prompt contains earlier replies. template: as the chat template renders them, which may drop their
thoughts. as_sampled: the prompt that led to a reply, the sampled tokens, and what follows them."""

_MARK = "{#- mica_ray: appends, history as sampled -#}"
_REPLY = "Kept7Q0reply"
"""Stands for a reply while the text after it is rendered. Only template text comes before it."""

_DEFAULTS = re.compile(r"(?:\{%- set (\w+) = \1 if \1 is defined else [^%]* -%\})*")
_HEAD = """{% macro mica_rendered(messages, add_generation_prompt) %}{{ '' }}"""
_TAIL = """{{ '' }}{% endmacro -%}
{%- set mica = namespace(replies=[], text='', head=[]) -%}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first and KEEPS_SYSTEM -%}
    {%- set mica.head = [{'role': 'system', 'content': message.content | replace(REPLY, '')}] -%}
  {%- elif message.role == 'assistant' and not loop.first and not loop.last
      and loop.previtem.role == 'user' and message.content is string and not message.tool_calls -%}
    {%- set mica.replies = mica.replies + [loop.index0] -%}
  {%- endif -%}
{%- endfor -%}
{%- if not mica.replies or not add_generation_prompt -%}
  {{- mica_rendered(messages, add_generation_prompt) -}}
{%- else -%}
  {%- set before = mica.head + [
      {'role': 'user', 'content': USER}, {'role': 'assistant', 'content': REPLY}] -%}
  {%- set mica.text = mica_rendered(messages[:mica.replies[0]], true) -%}
  {%- for place in mica.replies -%}
    {%- set end = messages | length if loop.last else loop.nextitem -%}
    {%- set after = mica_rendered(before + messages[place + 1:end], true).split(REPLY, 1)[1] -%}
    {%- set mica.text = mica.textDROP + ADD + messages[place].content + after -%}
  {%- endfor -%}
  {{- mica.text -}}
{%- endif -%}
"""


def appends(source: str) -> bool:
    """Whether a template was made by `appending_template`."""
    return source.startswith(_MARK)


def rewriting_template(source: str) -> str:
    """Return what `appending_template` made a template of, with its defaults; others as they are."""
    if not appends(source):
        return source
    defaults, _, rest = source.removeprefix(_MARK).partition(_HEAD)
    return defaults + rest.rpartition(_TAIL.partition("=")[0])[0]


def appending_template(
    rendering: Rendering, marks: Marks, *, path: str, arguments: Mapping[str, bool | int | str]
) -> str:
    """Return a template in which the prompt of a reply stays as it was when the reply is in the history.

        prompt(t + 1) = prompt(t) + reply(t) + what the template renders after a reply and the user's answer

    Where the prompt opens a thought, which a reply known by its text does not close, and where the reply's
    role is named by tokens that the policy samples, the text before the reply is that of the template's
    history. A system message is rendered once. The template's arguments become defaults.

    Args:
        rendering: of the original template, which may begin with defaults.
        marks: of thoughts, for the template.
        path: of the model, for error messages.
        arguments: template variables other than the messages.

    Raises:
        EngineError: the template transforms messages so that the parts of its text cannot be found.
    """
    drop, add = reply_opening(rendering, marks, path=path)
    _, _, after = rendering.render(rendering.merged(probe_dialogue(PLAIN[:1]))).partition(PLAIN[0])
    tail = (
        _TAIL.replace("KEEPS_SYSTEM", "false" if SYSTEM in after else "true")
        .replace("REPLY", repr(_REPLY))
        .replace("USER", repr(USER))
        .replace("DROP", f"[:-{len(drop)}]" if drop else "")
        .replace("ADD", repr(add))
    )
    found = _DEFAULTS.match(rendering.source)
    known = "" if found is None else found.group()
    defaults = [
        f"{{%- set {name} = {name} if {name} is defined else {value!r} -%}}"
        for name, value in arguments.items()
        if name.isidentifier()
    ]
    # The first default of a name counts.
    added = "".join(default for default in defaults if default not in known)
    original = rendering.source.removeprefix(known).removesuffix("\n")
    return f"{_MARK}{added}{known}{_HEAD}{original}{tail}"


def reply_opening(rendering: Rendering, marks: Marks, *, path: str) -> tuple[str, str]:
    """Return what to remove from the end of a reply's prompt, and to add, before a reply known by its text.

    Both are empty if the text can follow the prompt directly.

    Raises:
        EngineError: as `appending_template` does.
    """
    prompted = _between(rendering, probe_dialogue(()), USER, None, path)
    in_history = _between(rendering, probe_dialogue(PLAIN[:1]), USER, PLAIN[0], path)
    if not marks.is_open_at_end(prompted) and not in_history.startswith(prompted):
        return "", ""
    shared = os.path.commonprefix([prompted, in_history])
    return prompted[len(shared) :], in_history[len(shared) :]


def _between(rendering: Rendering, messages: list[Message], begin: str, end: str | None, path: str) -> str:
    _, found, text = rendering.render(rendering.merged(messages)).partition(begin)
    text, found_end, _ = text.partition(end) if end else (text, "-", "")
    if not found or not found_end or NEXT_USER in text:
        raise EngineError(
            f"The chat template of policy {path} transforms messages, so that their history cannot be kept "
            "as sampled. Set rollout.history=template, or use another chat_template.jinja."
        )
    return text
