"""A folder of cards in the benchmark's layout, made of sentences of our own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

LEVELS: Mapping[str, int] = {
    "C.1": 2, "C.2": 2, "C.3": 3, "A.1": 2, "A.2": 2, "A.3": 2, "P.1": 1, "P.2": 2, "P.3": 1,
}  # fmt: skip
"""C: -4 - 4 - 9 = -17. A: -4 - 8 - 6 = -18. P: -2 - 8 - 3 = -13."""

_THINGS = (
    "窗台上的薄荷",
    "旧自行车",
    "搬家的纸箱",
    "夜班公交",
    "合唱团的排练",
    "弟弟的毕业照",
    "厨房的灯",
    "渡口的船票",
)


def story(number: int) -> tuple[str, str, str, str]:
    """Give the four stages of the card with this number; cards with other numbers tell of other things."""
    thing = _THINGS[number % len(_THINGS)] + "一二三四五六七八九十"[number % 10] * 3
    return (
        f"那天看见{thing}的时候忽然想起从前住过的院子",
        f"后来才明白自己一直绕着{thing}不肯走进去",
        f"是不是我对{thing}要求太多了总怕别人笑话",
        f"说到{thing}终于忍不住哭了出来谁也没有拦我",
    )


def card(
    number: int,
    *,
    priorities: str = "    情感共情：[高优先级 + 先陪我]\n    动机共情：[低优先级]\n    认知共情：[中]",
) -> str:
    """Write a card."""
    thing = _THINGS[number % len(_THINGS)] + "甲乙丙丁戊己庚辛壬癸"[number % 10] * 3
    return f"""<character_info>
# 角色信息
姓名：小{number}
# 角色特征
- 说话慢，爱看云
# 角色聊天策略
- 先说一半，再看对方接不接
</character_info>
<empathy_threshold>
## 角色基础共情阈值
共情阈值【高】，空话听不进去
</empathy_threshold>
<psychological_profile>
## 聊天话题
关于{thing}的一点心事
## 共情需求
想要找人倾诉的想法与内容：昨天为了{thing}跟室友闹得不太愉快
当下共情需求优先级：
{priorities}
</psychological_profile>
<experience>
# 角色过往经历
童年经历：小时候总在{thing}旁边写作业
# 角色现状
现在的情况：在城东一家修表铺里学手艺，{thing}还没收拾
</experience>
<scenario>
# 角色故事
故事的起因：傍晚下了雨，{thing}全淋湿了
</scenario>
"""


def write_cards(
    folder: Path,
    numbers: Sequence[int],
    *,
    rated: Sequence[int] | None = None,
    official: Sequence[int] = (),
) -> Path:
    """Write cards script_901 and so on for the numbers; those of `rated` (all, when None) get LEVELS."""
    (folder / "cards").mkdir(parents=True)
    for number in numbers:
        (folder / "cards" / f"{name(number)}.md").write_text(card(number))
    write_stories(folder, numbers)
    entries = {
        f"old_{number}": {"new_id": name(number), "overlap": 0.9, "P_0": [-17, -18, -13], "iedr": LEVELS}
        for number in (numbers if rated is None else rated)
    }
    (folder / "iedr_236_cases.json").write_text(json.dumps(entries))
    if official:
        (folder / "official_cases.txt").write_text("\n".join(map(name, official)))
    return folder


def write_stories(folder: Path, numbers: Sequence[int]) -> None:
    """Write the stories of the cards."""
    entries = [
        {
            "剧本编号": name(number),
            "故事的经过": {
                f"阶段{place}": {"内容": text} for place, text in enumerate(story(number), start=1)
            },
        }
        for number in numbers
    ]
    (folder / "character_stories.json").write_text(json.dumps(entries, ensure_ascii=False))


def name(number: int) -> str:
    """Give the id of a card; no number here is an official case's."""
    return f"script_{9000 + number}"


def real_cards() -> Path:
    """Give the benchmark's folder, or skip the test."""
    place = Path(os.environ.get("MICA_DATA") or Path(__file__).parents[3] / "shared" / "data") / "empa"
    if not (place / "cards").is_dir():
        pytest.skip(f"no EMPA cards at {place}: set MICA_DATA")
    return place
