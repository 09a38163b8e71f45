"""The marks that models put around their thoughts, by model family. thinking.py reads texts with them.

Add a family to `FAMILIES` to support it everywhere: training, evaluation, roles, chat and service.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

_TAG_NAME = (
    r"(?=[\w:|.\-]{0,40}(?:think|thought|reason|reflection|analysis|deliberation|scratchpad|monologue|"
    r"思考|思维|推理))"
    r"[\w:.\-][\w:|.\-]{0,47}"
)
"""Name of a thinking tag: think, thinking, seed:think, M2_7think, REASONING_SCRATCHPAD."""
_PIPE = "[|｜]"
_PIPE_WORD = r"(?=[^<>|｜\n]{0,40}(?:think|thought|reason|inner_(?:pre|suf)fix))"
_PIPE_END = r"[^<>|｜\n]{0,40}(?:end|close|stop|suffix|/)"
_TEXT_IN_PIPES = r"[^<>|｜\n]{1,48}"
_ANGLE_BEGUN = r"<[^<>\n]{0,110}"
_GAP = r"[^\S\n]"
"""White space within a mark: a stream waits for the rest of a mark only up to the end of its line."""


def _prefixes(*literals: str) -> str:
    """Return a pattern for every non-empty prefix of the literals, the whole ones included."""
    return "|".join(
        re.escape(literal[:1])
        + "".join(f"(?:{re.escape(char)}" for char in literal[1:])
        + ")?" * (len(literal) - 1)
        for literal in literals
    )


@dataclass(frozen=True)
class Family:
    """The marks of a family, as patterns without capturing groups. Letter case does not matter."""

    name: str
    """Also a group name of the combined pattern."""
    opening: str
    closing: str
    begun: str
    """Matches at least every proper prefix of a mark: text that a stream must hold back."""
    silent: str = ""
    """Markup inside a thought that is no part of it; empty for none."""
    nests: bool = True
    """Whether an opening mark inside a thought opens another one."""
    is_markup: bool = True
    """Whether the marks are markup. False for words, which are no marks without an opening one."""

    @cached_property
    def inner(self) -> re.Pattern[str]:
        """The marks inside a thought, as groups "closing", "opening" and "silent"."""
        groups = {
            "closing": self.closing,
            "opening": self.opening if self.nests else "",
            "silent": self.silent,
        }
        return _any(groups)

    @cached_property
    def inner_begun(self) -> re.Pattern[str]:
        """The end of a text that may become a mark."""
        return re.compile(rf"(?:{self.begun})\Z", re.IGNORECASE)


def _any(groups: dict[str, str]) -> re.Pattern[str]:
    parts = [f"(?P<{name}>{pattern})" for name, pattern in groups.items() if pattern]
    return re.compile("|".join(parts), re.IGNORECASE)


_HARMONY_START = r"<\|start\|>\s?assistant\s?"
_HARMONY_CHANNEL = r"<\|channel\|>\s?{}[^<]{{0,60}}(?:<\|constrain\|>[^<]{{0,20}})?<\|message\|>"
_HARMONY_THOUGHT = _HARMONY_CHANNEL.format("(?:analysis|commentary)")
_HARMONY_REPLY = _HARMONY_CHANNEL.format("final")
_HARMONY_PARTS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>")
_GEMMA_PARTS = ("<|channel>", "<channel|>")
_GRANITE_FORMS = ("Here is my {}:", "Here's my {}:", "Here’s my {}:")

_GRANITE_OPENINGS, _GRANITE_CLOSINGS = (
    tuple(form.format(noun) for form in _GRANITE_FORMS) for noun in ("thought process", "response")
)

FAMILIES: tuple[Family, ...] = (
    # <think>: DeepSeek, Qwen, GLM, Kimi K2, Nemotron, Phi, Hunyuan, MiniMax, Ernie, SmolLM, Olmo, Step;
    # <thought>: EXAONE; <seed:think>, <longcat_think>, <ifm|think>; and the tags that prompts ask for.
    Family(
        "tags",
        opening=rf"<{_GAP}?{_TAG_NAME}(?:{_GAP}[^<>/\n]{{0,40}})?>",
        closing=rf"<{_GAP}?/{_GAP}?{_TAG_NAME}{_GAP}?>",
        begun=_ANGLE_BEGUN,
    ),
    # gpt-oss, with its special tokens. Commentary is for tools.
    Family(
        "harmony",
        opening=rf"(?:{_HARMONY_START})?{_HARMONY_THOUGHT}",
        closing=_HARMONY_REPLY,
        silent=rf"<\|end\|>|<\|call\|>|{_HARMONY_THOUGHT}|{_HARMONY_START}",
        begun=rf"<\|(?:start|channel)\|>[^<]{{0,70}}(?:<[^<>]{{0,20}}(?:>[^<]{{0,70}})?){{0,4}}|{_ANGLE_BEGUN}",
        nests=False,
    ),
    # gpt-oss, decoded without its special tokens. No word goes on after "analysis".
    Family(
        "harmony_words",
        opening=r"(?:analysis|commentary)(?=[^\W_])",
        closing="assistantfinal",
        silent="assistantanalysis|assistantcommentary",
        begun=_prefixes(
            "analysis", "commentary", "assistantfinal", "assistantanalysis", "assistantcommentary"
        ),
        nests=False,
        is_markup=False,
    ),
    # Gemma 4: the closing mark is the opening one mirrored.
    Family(
        "gemma",
        opening=r"<\|channel>\s?(?:thought|thinking)",
        closing=r"<channel\|>",
        begun=rf"<\|channel>\s?\w{{0,8}}|{_ANGLE_BEGUN}",
        nests=False,
    ),
    Family("unused", opening="<unused94>", closing="<unused95>", begun=_ANGLE_BEGUN),  # MedGemma
    # Command: <|START_THINKING|>; Apertus: <|inner_prefix|>; <|begin_of_thought|>; <|think|>.
    Family(
        "pipes",
        opening=rf"<{_PIPE}(?!{_PIPE_END}){_PIPE_WORD}{_TEXT_IN_PIPES}{_PIPE}>",
        closing=rf"<{_PIPE}(?={_PIPE_END}){_PIPE_WORD}{_TEXT_IN_PIPES}{_PIPE}>",
        begun=_ANGLE_BEGUN,
    ),
    # Mistral and Magistral; Pangu.
    Family(
        "brackets",
        opening=r"\[(?:THINK|unused16)\]",
        closing=r"\[(?:/THINK|unused17)\]",
        begun=_prefixes("[THINK]", "[/THINK]", "[unused16]", "[unused17]"),
    ),
    # Kimi 1.5 and Kimi-VL.
    Family("triangles", opening="◁think▷", closing="◁/think▷", begun=_prefixes("◁think▷", "◁/think▷")),
    Family(
        "lenticular",
        opening="【(?:思考|思考过程|推理|推理过程)】",
        closing="【/(?:思考|思考过程|推理|推理过程)】|【(?:回答|回复|答案|正文)】",
        begun=r"【[^【】\n]{0,6}】?",
        is_markup=False,
    ),
    # Tags that a server escaped for a page.
    Family(
        "escaped",
        opening=rf"&lt;{_TAG_NAME}&gt;",
        closing=rf"&lt;/{_TAG_NAME}&gt;",
        begun=r"&(?:l(?:t(?:;[^&\n]{0,60}(?:&(?:g(?:t)?)?)?)?)?)?",
    ),
    Family(
        "granite",
        opening="|".join(_GRANITE_OPENINGS),
        closing="|".join(_GRANITE_CLOSINGS),
        begun=_prefixes(*_GRANITE_OPENINGS, *_GRANITE_CLOSINGS),
        nests=False,
        is_markup=False,
    ),
    Family(
        "fence",
        opening=r"```(?:think|thinking|thoughts?|reasoning)[ \t]{0,4}\n",
        closing=r"\n```",
        begun=r"`{1,2}|```[a-z]{0,10}[ \t]{0,4}|\n`{0,3}",
        nests=False,
        is_markup=False,
    ),
)

_ANSWER = r"(?:answer|response|reply|output|final|final_answer|final_response|solution|回答|答案|回复)"
ANSWER_OPENING = re.compile(
    rf"<{_GAP}?{_ANSWER}{_GAP}?>|(?P<special><{_PIPE}(?:(?:start|begin)(?:_of)?_{_ANSWER}|start_text){_PIPE}>)",
    re.IGNORECASE,
)
"""Opens the reply after a thought; the special tokens also open a reply without one."""
ANSWER_CLOSING = re.compile(
    rf"\s{{0,40}}(?:<{_GAP}?/{_GAP}?{_ANSWER}{_GAP}?>|<{_PIPE}end(?:(?:_of)?_{_ANSWER}|_text){_PIPE}>|<\|return\|>|<\|end\|>)",
    re.IGNORECASE,
)
ANSWER_BEGUN = re.compile(rf"\s{{1,40}}\Z|\s{{0,40}}{_ANGLE_BEGUN}\Z")


class Marks:
    """The marks of several families as one set of patterns."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = {family.name: family for family in families}
        markup = [family for family in families if family.is_markup]
        self._opening = _any({family.name: family.opening for family in families})
        self._begun = re.compile("|".join(family.begun for family in families), re.IGNORECASE)
        self.closing = re.compile("|".join(family.closing for family in markup), re.IGNORECASE)
        """A closing mark of any family that uses markup."""
        self.opening = re.compile("|".join(family.opening for family in markup), re.IGNORECASE)
        """An opening mark of any family that uses markup."""
        empty = rf"(?:{_HARMONY_START})?(?:{self.closing.pattern})|<{_GAP}?{_TAG_NAME}{_GAP}?/{_GAP}?>"
        self.empty = re.compile(empty, re.IGNORECASE)
        """What models write at the start when their thinking is off: a closing mark, or an empty tag."""
        self.of_prompt = Family(
            "of_prompt",
            opening="|".join(family.opening for family in markup if family.nests),
            closing=self.closing.pattern,
            silent="|".join(family.silent for family in markup if family.silent),
            begun="|".join(family.begun for family in markup),
        )
        """The marks inside a thought that the prompt opened, whatever its family."""

    def opening_at_start(self, text: str) -> tuple[Family, int] | None:
        """Return the family of the opening mark at the start of a text, and where the mark ends."""
        found = self._opening.match(text)
        return None if found is None else (self._families[str(found.lastgroup)], found.end())

    def may_begin(self, text: str) -> bool:
        """Whether more text can turn the whole text into an opening or a closing mark."""
        return self._begun.fullmatch(text) is not None

    def is_open_at_end(self, text: str) -> bool:
        """Whether a text ends with an opening mark, as the prompt of a thinking model does."""
        text = text.rstrip()
        return any(found.end() == len(text) for found in self.opening.finditer(text, max(0, len(text) - 200)))

    def is_mark(self, token: str, vocabulary: Collection[str]) -> bool:
        """Whether a special token is a mark, or a part of one, in a vocabulary with these special tokens."""
        patterns = (self.opening, self.closing, ANSWER_OPENING, ANSWER_CLOSING)
        is_part = token in _HARMONY_PARTS and "<|channel|>" in vocabulary
        return is_part or token in _GEMMA_PARTS or any(pattern.fullmatch(token) for pattern in patterns)


_SPLIT = re.compile(r"""split\(\s*(['"])</([\w:|.\-]{1,48})>\\?n?\1""")
_REASONING = re.compile(
    r"""(['"])<([\w:|.\-]{1,48})>(?:\\n)?\1\s*[+~]\s*[\w.\[\]'"]*(?:reason|think|thought)""", re.IGNORECASE
)


def template_tags(source: str) -> tuple[str, ...]:
    """Return the names of the tags that a chat template puts around thoughts and no family has.

    Found are the tags at which the template splits earlier replies, and those before their reasoning.
    """
    tags = [found.group(2) for pattern in (_SPLIT, _REASONING) for found in pattern.finditer(source)]
    return tuple(dict.fromkeys(tag for tag in tags if not KNOWN.closing.fullmatch(f"</{tag}>")))


KNOWN = Marks(FAMILIES)
"""The marks of all families in the table."""


@cache
def marks_with(tags: tuple[str, ...]) -> Marks:
    """Return the marks of all families, and those of a template's own tags."""
    if not tags:
        return KNOWN
    names = "|".join(map(re.escape, tags))
    opening, closing = f"<(?:{names})>", f"</(?:{names})>"
    return Marks([*FAMILIES, Family("of_template", opening=opening, closing=closing, begun=_ANGLE_BEGUN)])
