"""The READMEs: their Python blocks run, their commands parse, and their links, paths and references exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from mica_ray.config.references import resolve

ROOT = Path(__file__).parents[1]
NOT_OURS = {"runs", "mlruns", "shared", "node_modules", "build", "dist"}
"""Folders that hold no documents of the repository; neither do hidden ones."""
ABSENT_PACKAGES = re.compile(r"^\s*(from|import) (verl|skyrl)\b", re.MULTILINE)
"""Trainers that are not installed here: blocks that use them are only compiled."""


def readmes() -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in NOT_OURS)
        found += [Path(folder, name) for name in files if name == "README.md"]
    return found


@dataclass(frozen=True)
class Block:
    """A code block: fenced with its language, or indented by four spaces."""

    readme: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.readme.relative_to(ROOT)}:{self.line}"


def blocks(readme: Path) -> Iterator[Block]:
    fence: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(readme.read_text().splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence = (number, line[3:].strip(), [])
            else:
                yield Block(readme, fence[0], fence[1], "\n".join(fence[2]) + "\n")
                fence = None
        elif fence is not None:
            fence[2].append(line)
        elif line.startswith("    "):
            yield Block(readme, number, "", line.strip() + "\n")


ALL = [block for readme in readmes() for block in blocks(readme)]
PYTHON = [block for block in ALL if block.language == "python"]
COMMANDS = [
    (block.place, line.strip().removeprefix("cluster/with-env "))
    for block in ALL
    if block.language != "python"
    for line in block.text.splitlines()
    if re.match(r"\s*(cluster/with-env )?mica ", line)
]


def names(items: list[Block]) -> list[str]:
    return [item.place for item in items]


def is_runnable(block: Block) -> bool:
    return not block.text.startswith("# needs") and not ABSENT_PACKAGES.search(block.text)


@pytest.mark.parametrize("block", PYTHON, ids=names(PYTHON))
def test_python_block_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec")


RUNNABLE = [block for block in PYTHON if is_runnable(block)]


@pytest.mark.slow
@pytest.mark.parametrize("block", RUNNABLE, ids=names(RUNNABLE))
def test_python_block_runs(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(block.text)
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def parse(arguments: list[str]) -> None:
    """Parse a command with the real command line; the commands themselves are replaced by nothing."""
    from mica_ray.cli.commands import app

    command: Any = typer.main.get_command(app)
    pending = [command]
    while pending:
        each = pending.pop()
        pending += getattr(each, "commands", {}).values()
        if not hasattr(each, "commands"):
            each.callback = lambda **_: None
    command.main(arguments, prog_name="mica", standalone_mode=False)


@pytest.mark.parametrize(("place", "line"), COMMANDS, ids=[f"{place}:{line}" for place, line in COMMANDS])
def test_command_parses(place: str, line: str) -> None:
    parse(shlex.split(line, comments=True)[1:])


def test_command_with_an_unknown_option_is_found() -> None:
    with pytest.raises(Exception, match="--no-such-option"):
        parse(["train", "--no-such-option"])


@pytest.mark.parametrize("readme", readmes(), ids=lambda readme: str(readme.relative_to(ROOT)))
def test_relative_links_exist(readme: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", readme.read_text())
    relative = [link.partition("#")[0] for link in links if not re.match(r"\w+:|#", link)]
    assert [link for link in relative if not (readme.parent / link).exists()] == []


def mentioned_paths(readme: Path) -> Iterator[str]:
    """Yield what looks like a path of the repository, without endings such as `:NAME` or `::test`."""
    text = readme.read_text()
    # Files that the reader writes: named after "In", before ":NAME", or after `mica train`.
    written_by_reader = set(re.findall(r"(?:[iI]n `|mica \w+ )([\w.]+\.py)\b|\b(\w+\.py):\w", text))
    written_by_reader = {name for pair in written_by_reader for name in pair}
    spans = re.findall(r"`([^`\n]+)`", text)
    in_blocks = [word for block in blocks(readme) for word in block.text.split() if "/" in word]
    starts = {path.name for base in (ROOT, ROOT / "mica_ray") for path in base.iterdir() if path.is_dir()}
    for word in [*(word for span in spans for word in span.split()), *in_blocks]:
        path = word.strip("`'\"(),;").partition(":")[0].rstrip("/")
        if not re.fullmatch(r"\.?[\w-][\w./-]*", path) or path in written_by_reader:
            continue
        head, slash, _ = path.partition("/")
        if (slash and head in starts - NOT_OURS) or (
            path.endswith(".py") and path.islower() and word in spans
        ):
            yield path


@pytest.mark.parametrize("readme", readmes(), ids=lambda readme: str(readme.relative_to(ROOT)))
def test_mentioned_paths_exist(readme: Path) -> None:
    files = {
        path.name for folder in ("mica_ray", "experiments", "tests") for path in (ROOT / folder).rglob("*.py")
    }
    bases = (ROOT, ROOT / "mica_ray", readme.parent)
    missing = [
        path
        for path in dict.fromkeys(mentioned_paths(readme))
        if not any((base / path).exists() for base in bases) and ("/" in path or path not in files)
    ]
    assert missing == []


REFERENCES = sorted(
    {
        (str(readme.relative_to(ROOT)), reference)
        for readme in readmes()
        for reference in re.findall(r"\bmica_ray(?:\.\w+)+:\w+", readme.read_text())
    }
)


@pytest.mark.parametrize(("place", "reference"), REFERENCES)
def test_reference_resolves(place: str, reference: str) -> None:
    resolve(reference)
