"""The text of one EMPA-format card: markdown in five tagged sections, Chinese. No file is opened here.

The folder around the cards is `epm_cards.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Grade = Literal["high", "mid", "low"]

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "character_info": ("角色信息", "角色特征"),
    "empathy_threshold": ("角色基础共情阈值",),
    "psychological_profile": ("聊天话题", "共情需求"),
    "experience": ("角色过往经历", "角色现状"),
    "scenario": ("角色故事",),
}
"""The headings that each section must hold, with text below them."""

_STRATEGY = "角色聊天策略"
_NEEDS_BY_AXIS = {"C": "认知", "A": "情感", "P": "动机"}
_HEADING = re.compile(r"^[ \t]*#+[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_THRESHOLD = re.compile(r"共情阈值\s*【\s*(高|中|低)")
_GRADES: Mapping[str, Grade] = {"高": "high", "中": "mid", "低": "low"}

_GRADE_WORDS: Mapping[str, Grade] = {
    "最高": "high", "极高": "high", "较高": "high", "高": "high", "首要": "high",
    # The indicator scale calls its second level the core one: 最高, 核心, 次要 are three steps.
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
    """One thing that is wrong or odd in a folder of cards, and what to do about it."""

    file: str
    """Below the folder."""
    field: str
    problem: str
    remedy: str
    is_fatal: bool = True
    """Whether training refuses; otherwise it is worth knowing and no more."""

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class CardText:
    """What one card says, in its own words."""

    person: str
    """Name, sex, age."""
    traits: str
    strategy: str
    """How the person chats; empty where the card does not say."""
    threshold: Grade
    """How hard the person is to reach."""
    threshold_text: str
    topic: str
    """What the talk is about."""
    needs: str
    """What the person wants to tell and hopes to hear, priorities of the axes included."""
    priorities: Mapping[str, Grade]
    """By axis key; an axis that the card does not grade is absent."""
    experience: str
    situation: str
    scene: str
    """What set the talk off."""

    @property
    def persona(self) -> str:
        """Everything the roles may know of the person, under headings."""
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
        """What this card alone says: neither labels nor phrases that many cards share by their form."""
        graded = tuple(f"{need}共情" for need in _NEEDS_BY_AXIS.values())
        lines = "\n".join((self.topic, self.needs, self.experience, self.situation, self.scene)).split("\n")
        return "".join(
            _LABEL.sub("", line) for line in lines if not line.lstrip("1234567890. ").startswith(graded)
        )


def read_card_text(content: bytes, file: str) -> tuple[CardText | None, tuple[CardFlaw, ...]]:
    """Read one card.

    Args:
        content: the file's bytes, UTF-8.
        file: its name, for the flaws.

    Returns:
        The text, None when the card cannot be used; and what is wrong or odd in it.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start})"
        return None, (CardFlaw(file, "encoding", problem, "save the card as UTF-8"),)
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
    """Cut a section into texts by heading; blank lines and indents go."""
    parts = _HEADING.split(body)
    return {
        heading: "\n".join(line.strip() for line in text.split("\n") if line.strip())
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _priorities(needs: str) -> dict[str, Grade]:
    """Read what weighs most: graded in words, numbered, or in a chain a > b > c."""
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
    """Read an order of the three needs; nothing unless all three stand in it once, at its beginning."""
    names = "|".join(_NEEDS_BY_AXIS.values())
    numbered = re.findall(rf"([123])\.[ \t]*({names})共情", stated)
    if len(numbered) == len(_RANKS):
        ranks: dict[str, Grade] = {name: _RANKS[int(number) - 1] for number, name in numbered}
    else:
        chain = re.match(rf"\W*({names})共情\s*>\s*({names})共情\s*>\s*({names})共情", stated)
        ranks = dict(zip(chain.groups(), _RANKS, strict=True)) if chain else {}
    axes = {need: axis for axis, need in _NEEDS_BY_AXIS.items()}
    return {axes[name]: grade for name, grade in ranks.items()} if len(ranks) == len(_RANKS) else {}
