"""Marks by which chat templates separate turns, and how they are escaped in text that others wrote.

rollout/prompting keeps such text from becoming control tokens; here is the text form, for models behind an
endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

_FOLD = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {
    0x3000: " ",  # ideographic space
    0x2581: "_",  # the visible space of SentencePiece, in DeepSeek's marks
    0xFE64: "<",
    0xFE65: ">",
    0xFE31: "|",
    0x2223: "|",
    0x2502: "|",
}
"""Full-width and similar characters, one to one: some tokenizers normalize them to the ASCII ones."""

_NAME = r"[^\[\]<>|\r\n]{1,40}"
_SPEAKERS = r"system|user|assistant|human|bot|model|tool|developer|observation|ai"
_BRACKETED = (
    r"INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS|THINK|ARGS"
    r"|CALL_ID|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|PREFIX|SUFFIX|MIDDLE|UNK|CLS|SEP|MASK|PAD|BOS|EOS"
    r"|g?MASK|s?MASK|CONTROL_\d+"
)
_ANGLED = (
    r"s|bos|eos|pad|unk|cls|sep|mask|sop|eop|eoh|eoa|eoc|eos|eom|eot|eod"
    r"|(?:start|end)_of_\w{1,20}|(?:start|end)_function_\w{1,20}|im_(?:start|end)|\w{1,30}_TOKEN|fim_\w{1,20}"
    r"|role|_(?:user|bot|system|start|end)"
    r"|think|thinking|thought|reasoning|tool_calls?|tool_responses?|tools|seed:\w{1,20}"
    rf"|(?:extra_id|unused|reserved|special)_?\d+|TOKENS_UNUSED_\d+|{_SPEAKERS}"
)
_PATTERNS = (
    rf"<\|{_NAME}\|?>",  # ChatML, Llama 3, Phi, GPT-OSS; DeepSeek's after folding
    rf"<{_NAME}\|>",
    rf"\[\|{_NAME}\|\]",
    rf"</?(?:{_ANGLED})>",
    rf"\[/?(?:{_BRACKETED})\]",
    r"<<\s?/?SYS\s?>>",
    rf"^[ \t]*#{{2,6}}[ \t]?(?:instructions?|input|response|{_SPEAKERS})[ \t]?:",
    r"\]~!?b[\[\]]",
    r"\[e~\[",
)
MARK = re.compile("|".join(_PATTERNS), re.IGNORECASE | re.MULTILINE)
"""Marks of all known template families, in folded text."""

_FIRST = re.compile(r"[<\[#\]]")
"""Every mark contains one of these, so that a text without them need not be searched."""


def folded(text: str) -> str:
    """Return the text with full-width characters replaced by ASCII, of equal length."""
    return text if text.isascii() else text.translate(_FOLD)


def broken(mark: str) -> str:
    """Return a mark with a space inside each end, so that it is readable and no longer a mark.

    >>> broken("<|im_end|>"), broken("USER:"), broken("User")
    ('< |im_end| >', 'USER :', 'U ser')
    """
    bare = mark.lstrip()
    blank = mark[: len(mark) - len(bare)]
    begins, ends = not bare[0].isalnum(), not bare[-1].isalnum() and len(bare) > 2
    if not (begins or ends):
        return f"{blank}{bare[0]} {bare[1:]}"
    inner = bare[int(begins) : len(bare) - int(ends)]
    return blank + f"{bare[0]} " * begins + inner + f" {bare[-1]}" * ends


def escape_marks(text: str, pattern: re.Pattern[str] = MARK) -> str:
    """Return the text with every control mark broken; text without marks is returned unchanged.

    >>> escape_marks("Bye.<|im_end|>"), escape_marks("[INST] Hi"), escape_marks("I <3 [you] | me")
    ('Bye.< |im_end| >', '[ INST ] Hi', 'I <3 [you] | me')

    Args:
        text: text that others wrote.
        pattern: the marks, matched in the folded text; the default is the table of all families.
    """
    flat = folded(text)
    if pattern is MARK and not _FIRST.search(flat):
        return text
    parts: list[str] = []
    begin = 0
    for found in pattern.finditer(flat):
        parts += (text[begin : found.start()], broken(text[found.start() : found.end()]))
        begin = found.end()
    return "".join((*parts, text[begin:])) if parts else text


def escape_json(value: Any) -> Any:
    """Return a JSON value with the marks in every string broken; keys stay.

    >>> escape_json({"user": "Hi", "reply": ["</s>", 1.5, None]})
    {'user': 'Hi', 'reply': ['< /s >', 1.5, None]}
    """
    if isinstance(value, str):
        return escape_marks(value)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {key: escape_json(item) for key, item in fields.items()}
    if isinstance(value, list | tuple):
        return [escape_json(item) for item in cast("list[Any]", value)]
    return value
