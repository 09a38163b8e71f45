"""Docstrings, comments and messages: no home-made openings or phrases, no names of missing files."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("mica_ray", "experiments", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
WORLD_TEXT = ("mica_ray/embedded/", "mica_ray/domains/", "tests/test_language.py")
"""Files whose strings are what simulated people say, or this list itself."""

OPENINGS = {
    *("Give", "Gives", "Say", "Says", "Tell", "Tells"),
    *("Be", "Hand", "Hands", "Let", "Lets", "Put", "Have"),
}
"""First words of docstrings for which the field has a verb: Return, Report, Check, Pass, Allow, Store."""

PHRASES = re.compile(
    r"\b(anew|came to|gone on with|goes on with|stands for itself|be rid of|what is no|who is no|lies in"
    r"|lie in|is told|are told|was told|told of|mend|whoever|come to nothing)\b",
    re.IGNORECASE,
)
"""Phrases with a plain equivalent: again, resulted in, continued, is in, is informed, fix, anyone who."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def bad_openings() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0][:70]}"
        for path in SOURCES
        for line, text in docstrings(ast.parse(path.read_text()))
        if text.split()[0] in OPENINGS
    ]


def bad_phrases() -> list[str]:
    found: list[str] = []
    for path in SOURCES:
        name, source = path.relative_to(ROOT).as_posix(), path.read_text()
        tree = ast.parse(source)
        texts = [*docstrings(tree), *comments(source)]
        if not name.startswith(WORLD_TEXT):
            texts += strings(tree)
        found += [
            f"{name}:{line}: ...{text[max(0, match.start() - 30) : match.end() + 30]!r}"
            for line, text in texts
            if name != "tests/test_language.py"
            for match in PHRASES.finditer(text)
        ]
    return sorted(set(found))


def stale_file_names() -> list[str]:
    """List files that a docstring or comment mentions and that do not exist."""
    known = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    endings = {"/".join(name.split("/")[-depth:]) for name in known for depth in range(1, 6)}
    found: list[str] = []
    for path in SOURCES:
        source = path.read_text()
        for line, text in [*docstrings(ast.parse(source)), *comments(source)]:
            found += [
                f"{path.relative_to(ROOT)}:{line}: {name}"
                for name in re.findall(r"(?<![\w./<*-])((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)\b", text)
                if name not in endings and name not in ("file.py", "my_file.py")
            ]
    return found


def test_docstrings_open_with_the_verb_of_the_field() -> None:
    assert bad_openings() == []


def test_no_phrase_that_has_a_plain_equivalent() -> None:
    assert bad_phrases() == []


def test_mentioned_files_exist() -> None:
    assert stale_file_names() == []


@pytest.mark.parametrize("text", ["Begin it anew.", "what is no sum", "Whoever asks", "It lies in a file."])
def test_phrases_are_found(text: str) -> None:
    assert PHRASES.search(text)


if __name__ == "__main__":
    for finding in (*bad_openings(), *bad_phrases(), *stale_file_names()):
        print(finding)
