"""Does the time of the care check stay in proportion to the message, whatever it contains?

Command:   python experiments/bench_safety.py --json safety.json
Time:      two minutes
Expected:  no text of 32,000 characters takes more than 10 times as long as its first 4,000.

The texts are every word of rules.toml repeated, and sentences of such words that never repeat.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mica_ray.files import write_json
from mica_ray.safety.rules import OWN_RULES, CareRules

SHORT, LONG = 4_000, 32_000
_NUM_SHOWN = 10


def main(
    rules: Annotated[Path, typer.Option(help="Rules in the form of mica_ray/safety/rules.toml.")] = OWN_RULES,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the ratios to this file.")
    ] = None,
) -> None:
    """Print the texts with the largest ratio of the two times."""
    check = CareRules.read(rules)
    source = re.sub(r"\\.", " ", rules.read_text(encoding="utf-8"))  # Without \\b, \\w and their like.
    words = sorted(set(re.findall(r"[a-z]+|[\u4e00-\u9fff]+", source)))
    draw = random.Random(0)
    texts = {f"{word} repeated": f"{word} " * (LONG // len(word)) for word in words}
    texts["words in random order"] = " ".join(draw.choice(words) for _ in range(LONG))
    texts["lines in random order"] = "\n".join(draw.choice(words) for _ in range(LONG))
    measured = {
        name: (seconds(check, text[:SHORT]), seconds(check, text[:LONG]))
        for name, text in track(texts.items(), "texts checked", console=Console(stderr=True))
    }
    ratios = sorted(((long / short, name) for name, (short, long) in measured.items()), reverse=True)
    table = Table("text", "4,000 characters, ms", "32,000 characters, ms", "ratio", box=SIMPLE_HEAD)
    for ratio, name in ratios[:_NUM_SHOWN]:
        short, long = measured[name]
        table.add_row(name, f"{1000 * short:.1f}", f"{1000 * long:.1f}", f"{ratio:.1f}")
    Console().print(table)
    if json_file is not None:
        write_json(json_file, {"ratios": {name: ratio for ratio, name in ratios}})


def seconds(rules: CareRules, text: str) -> float:
    """Return the shortest of three process times."""

    def once() -> float:
        begin = time.process_time()
        rules.find(text)
        return time.process_time() - begin

    return min(once() for _ in range(3))


if __name__ == "__main__":
    typer.run(main)
