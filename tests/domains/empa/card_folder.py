"""A folder of cards in the benchmark's layout, made of sentences of our own."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

LEVELS: Mapping[str, int] = {
    "C.1": 2, "C.2": 2, "C.3": 3, "A.1": 2, "A.2": 2, "A.3": 2, "P.1": 1, "P.2": 2, "P.3": 1,
}  # fmt: skip
"""C: -4 - 4 - 9 = -17. A: -4 - 8 - 6 = -18. P: -2 - 8 - 3 = -13."""

_CHARACTERS = (
    "山水云月风雨桥路门窗灯书笔纸花草树叶鸟鱼船车马牛羊米面茶酒盐糖春夏秋冬早晚东南西北红黄蓝白大小长短新旧"
)


def tale(number: int, part: str) -> str:
    """Return twenty characters that differ from those of every other card and part."""
    return "".join(random.Random(f"{number}/{part}").choices(_CHARACTERS, k=20))


def story(number: int) -> tuple[str, str, str, str]:
    """Return the four stages of the card with this number."""
    first, second, third, fourth = (f"忽然想起{tale(number, f'stage {place}')}" for place in range(4))
    return first, second, third, fourth


def card(
    number: int,
    *,
    priorities: str = "    情感共情：[高优先级 + 先陪我]\n    动机共情：[低优先级]\n    认知共情：[中]",
) -> str:
    """Write a card."""
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
{tale(number, "topic")}
## 共情需求
想要找人倾诉的想法与内容：{tale(number, "need")}
当下共情需求优先级：
{priorities}
</psychological_profile>
<experience>
# 角色过往经历
童年经历：{tale(number, "childhood")}
# 角色现状
现在的情况：在城东一家修表铺里学手艺，{tale(number, "now")}
</experience>
<scenario>
# 角色故事
故事的起因：傍晚下了雨，{tale(number, "scene")}
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
    """Return the id of a card, which is never that of an official case."""
    return f"script_{9000 + number}"


def real_cards() -> Path:
    """Return the benchmark's folder, or skip the test."""
    place = Path(os.environ.get("MICA_DATA") or Path(__file__).parents[4] / "shared" / "data") / "empa"
    if not (place / "cards").is_dir():
        pytest.skip(f"no EMPA cards at {place}: set MICA_DATA")
    return place
