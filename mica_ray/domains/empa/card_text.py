"""Parses the text of one EMPA-format card: Chinese markdown in five tagged sections.

empa/cards.py reads the folder of cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mica_ray.valid_text import decoded

Grade = Literal["high", "mid", "low"]

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "character_info": ("角色信息", "角色特征"),
    "empathy_threshold": ("角色基础共情阈值",),
    "psychological_profile": ("聊天话题", "共情需求"),
    "experience": ("角色过往经历", "角色现状"),
    "scenario": ("角色故事",),
}
"""Headings that each section must contain, with text below them."""

_STRATEGY = "角色聊天策略"
_NEEDS_BY_AXIS = {"C": "认知", "A": "情感", "P": "动机"}
_HEADING = re.compile(r"^[ \t]*#+[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_THRESHOLD = re.compile(r"共情阈值\s*【\s*(高|中|低)")
_GRADES: Mapping[str, Grade] = {"高": "high", "中": "mid", "低": "low"}

_GRADE_WORDS: Mapping[str, Grade] = {
    "最高": "high", "极高": "high", "较高": "high", "高": "high", "首要": "high",
    # On the indicator scale the second level is called core: 最高, 核心, 次要 are three steps.
    "核心": "mid", "中": "mid", "次级": "mid", "其次": "mid",
    "较低": "low", "最低": "low", "极低": "low", "低": "low", "再次": "low", "最后": "low", "次要": "low",
}  # fmt: skip
_RANKS: tuple[Grade, ...] = ("high", "mid", "low")
_WORDS = "|".join(sorted(_GRADE_WORDS, key=len, reverse=True))
_GRADED = rf"共情[^\w\n]*(?:优先级(?:等级)?)?[^\w\n]*({_WORDS})"
_PRIORITIES = "共情需求优先级"
_LABEL = re.compile(r"^[^\uff1a:\n]{2,14}[\uff1a:]")


@dataclass(frozen=True, slots=True)
class CardFlaw:
    """One error or oddity in a folder of cards, and its remedy."""

    file: str
    """Path relative to the folder."""
    field: str
    problem: str
    remedy: str
    is_fatal: bool = True
    """Whether training rejects the folder; otherwise the flaw is only reported."""

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class CardText:
    """The text of one card, by part."""

    person: str
    """Name, sex, age."""
    traits: str
    strategy: str
    """The person's chat style; empty if the card has none."""
    threshold: Grade
    """How hard the person is to reach."""
    threshold_text: str
    topic: str
    """Topic of the dialogue."""
    needs: str
    """What the person wants to express and to hear, with the priorities of the axes."""
    priorities: Mapping[str, Grade]
    """Grade by axis key; axes without a grade are absent."""
    experience: str
    situation: str
    scene: str
    """The event that started the dialogue."""

    @property
    def persona(self) -> str:
        """Everything the roles may know about the person, under headings."""
        parts = (
            ("角色", self.person),
            ("性格", self.traits),
            ("聊天策略", self.strategy),
            ("共情阈值", self.threshold_text),
            ("聊天话题", self.topic),
            ("共情需求", self.needs),
            ("过往经历", self.experience),
            ("现状", self.situation),
            ("触发场景", self.scene),
        )
        return "\n\n".join(f"【{name}】\n{text}" for name, text in parts if text)

    @property
    def own_text(self) -> str:
        """The text that is specific to this card, without labels and phrases of the common form."""
        graded = tuple(f"{need}共情" for need in _NEEDS_BY_AXIS.values())
        lines = "\n".join((self.topic, self.needs, self.experience, self.situation, self.scene)).split("\n")
        return "".join(
            _LABEL.sub("", line) for line in lines if not line.lstrip("1234567890. ").startswith(graded)
        )


def read_card_text(content: bytes, file: str) -> tuple[CardText | None, tuple[CardFlaw, ...]]:
    """Read one card.

    Args:
        content: bytes of the file, UTF-8.
        file: name of the file, for the flaws.

    Returns:
        The text, None if the card is unusable; and the flaws found in it.
    """
    try:
        text = decoded(content).replace("\r\n", "\n")
    except ValueError as error:
        return None, (CardFlaw(file, "encoding", f"is {error}", "save the card as UTF-8"),)
    if not text.strip():
        return None, (CardFlaw(file, "text", "the file is empty", "write the card or remove the file"),)
    found: dict[str, str] = {}
    flaws: list[CardFlaw] = []
    for section, headings in _SECTIONS.items():
        body = _section(text, section)
        if body is None:
            remedy = f"put it between <{section}> and </{section}>"
            flaws.append(CardFlaw(file, section, "the section is missing", remedy))
            continue
        blocks = _blocks(body)
        found |= blocks
        flaws += [
            CardFlaw(file, f"{section}/{heading}", "is missing or empty", f"write it below # {heading}")
            for heading in headings
            if not blocks.get(heading)
        ]
    threshold = _THRESHOLD.search(found.get("角色基础共情阈值", ""))
    if found.get("角色基础共情阈值") and threshold is None:
        remedy = "write 共情阈值【高】, 【中】 or 【低】"
        flaws.append(CardFlaw(file, "empathy_threshold", "names no level", remedy))
    if flaws or threshold is None:
        return None, tuple(flaws)
    card = _card(found, _GRADES[threshold[1]])
    return card, tuple(_oddities(card, file))


def _card(found: Mapping[str, str], threshold: Grade) -> CardText:
    needs = found["共情需求"]
    return CardText(
        person=found["角色信息"],
        traits=found["角色特征"],
        strategy=found.get(_STRATEGY, ""),
        threshold=threshold,
        threshold_text=found["角色基础共情阈值"],
        topic=found["聊天话题"],
        needs=needs,
        priorities=_priorities(needs),
        experience=found["角色过往经历"],
        situation=found["角色现状"],
        scene=_LABEL.sub("", found["角色故事"]).strip(),
    )


def _oddities(card: CardText, file: str) -> list[CardFlaw]:
    odd: list[CardFlaw] = []
    if not card.strategy:
        remedy = f"write it below # {_STRATEGY} in character_info, or leave it to the traits"
        odd.append(CardFlaw(file, "chat strategy", "is not given", remedy, is_fatal=False))
    missing = [axis for axis in _NEEDS_BY_AXIS if axis not in card.priorities]
    if missing:
        problem = f"no priority is given for axis {', '.join(missing)}"
        remedy = f"grade {'、'.join(f'{_NEEDS_BY_AXIS[axis]}共情' for axis in missing)} 高, 中 or 低"
        odd.append(CardFlaw(file, "axis priorities", problem, remedy, is_fatal=False))
    return odd


def _section(text: str, tag: str) -> str | None:
    _, opened, rest = text.partition(f"<{tag}>")
    body, closed, _ = rest.partition(f"</{tag}>")
    return body if opened and closed else None


def _blocks(body: str) -> dict[str, str]:
    """Split a section into texts by heading, without blank lines and indentation."""
    parts = _HEADING.split(body)
    return {
        heading: "\n".join(line.strip() for line in text.split("\n") if line.strip())
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _priorities(needs: str) -> dict[str, Grade]:
    """Read the priorities: graded in words, numbered, or as a chain a > b > c."""
    _, _, stated = needs.rpartition(_PRIORITIES)
    ranked = _ranks(stated)
    if ranked:
        return ranked
    found: dict[str, Grade] = {}
    for axis, need in _NEEDS_BY_AXIS.items():
        graded = re.search(need + _GRADED, stated)
        if graded:
            found[axis] = _GRADE_WORDS[graded[1]]
    return found


def _ranks(stated: str) -> dict[str, Grade]:
    """Read an order of the three needs; empty unless it starts with all three, once each."""
    names = "|".join(_NEEDS_BY_AXIS.values())
    numbered = re.findall(rf"([123])\.[ \t]*({names})共情", stated)
    if len(numbered) == len(_RANKS):
        ranks: dict[str, Grade] = {name: _RANKS[int(number) - 1] for number, name in numbered}
    else:
        chain = re.match(rf"\W*({names})共情\s*>\s*({names})共情\s*>\s*({names})共情", stated)
        ranks = dict(zip(chain.groups(), _RANKS, strict=True)) if chain else {}
    axes = {need: axis for axis, need in _NEEDS_BY_AXIS.items()}
    return {axes[name]: grade for name, grade in ranks.items()} if len(ranks) == len(_RANKS) else {}
