"""What the users of recorded dialogues wrote, real or simulated, whichever program recorded them.

Our own dialogues and EMPA runs are read by dialogue_files.py; other files need only a list of messages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

from mica_ray.content_files import content_files
from mica_ray.files import JsonFileError, JsonLine, read_json_lines
from mica_ray.recordings.dialogue_files import DIALOGUES, read_dialogues
from mica_ray.recordings.json_fields import error_at, objects_of, quoted, text_of
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.valid_text import valid_text

USERS = frozenset({"seeker", "user", "usr", "actor", "human", "client", "patient", "customer", "student"})
"""Names of the user's side in the known formats: ESConv has seeker, SAGE and chat files user, EMPA actor."""
_LISTS = ("dialog", "dialogue", "messages", "history", "conversation", "conversations")
_SPEAKERS = ("speaker", "role", "from")
_TEXTS = ("text", "content", "value")
_MOST_SPEAKERS = 5
"""Speakers named in one error."""


@dataclass(frozen=True, slots=True)
class UserDialogue:
    """The messages of the user in one dialogue, in order, none of them blank."""

    name: str
    """Id of the dialogue, or its line."""
    messages: tuple[str, ...]
    """What was written before the other side replied is one message, with line breaks inside."""


@dataclass(frozen=True, slots=True)
class UserMessages:
    """The user's side of a file or folder of dialogues."""

    name: str
    """Name of the file or folder, for tables."""
    dialogues: tuple[UserDialogue, ...]
    """Those with at least one message."""
    num_left_out: int
    """Dialogues that failed, or in which the user wrote nothing."""

    @property
    def num_messages(self) -> int:
        """The number of messages of all dialogues."""
        return sum(len(dialogue.messages) for dialogue in self.dialogues)


def read_user_messages(path: Path, *, speakers: Collection[str] = ()) -> UserMessages:
    """Read the user's messages of a run folder, a file, or a folder of files of JSON lines.

    Formats, by line: our own dialogues and published EMPA runs; and objects with a list dialog, dialogue,
    messages, history or conversation, whose entries have speaker, role or from, and text, content or value
    (ESConv, SAGE, chat files).

    Args:
        path: a file; a folder with dialogues.jsonl, or else with *.jsonl.
        speakers: further names of the user's side in such lists.

    Raises:
        RecordingError: a file cannot be read, a line is in no known format, or no user wrote anything.
    """
    files = _files(path)
    if not files:
        raise RecordingError(f"{path} contains no *.jsonl. Name a run folder or a file of dialogues.")
    users = USERS | {name.casefold() for name in speakers}
    found: list[UserDialogue] = []
    strangers: set[str] = set()
    for file in files:
        found += _dialogues(file, users, strangers)
    spoken = tuple(dialogue for dialogue in found if dialogue.messages)
    if not spoken:
        named = ", ".join(sorted(strangers)[:_MOST_SPEAKERS]) or "nobody"
        raise RecordingError(
            f"{path}: no message of a user. The speakers are: {named}. Name the user's side with --speaker."
        )
    name = path.absolute().parent.name if path.name == DIALOGUES else path.absolute().stem
    return UserMessages(valid_text(name), spoken, len(found) - len(spoken))


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    if (path / DIALOGUES).is_file():
        return (path / DIALOGUES,)
    try:
        return content_files(path, ".jsonl")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror}).") from error


def _dialogues(path: Path, users: Collection[str], strangers: set[str]) -> list[UserDialogue]:
    """Read the dialogues of one file; those without messages are included."""
    try:
        lines = read_json_lines(path, is_growing=path.exists())
    except JsonFileError as error:
        raise RecordingError(str(error)) from error
    if lines and any(isinstance(lines[0].fields.get(key), list) for key in ("turns", "trajectory")):
        return [
            UserDialogue(
                dialogue.scenario,
                () if dialogue.is_failed else _spoken(user for user, _ in dialogue.talk),
            )
            for dialogue in read_dialogues(path)
        ]
    return [_plain_dialogue(line, users, strangers) for line in lines]


def _plain_dialogue(line: JsonLine, users: Collection[str], strangers: set[str]) -> UserDialogue:
    """Read a line that has a list of messages."""
    field = next((name for name in _LISTS if isinstance(line.fields.get(name), list)), None)
    if field is None:
        found = ", ".join(sorted(line.fields)) or "nothing"
        raise error_at(line, f"needs a list of messages in one of {', '.join(_LISTS)}, found {found}.")
    said: list[tuple[bool, str]] = []
    for number, message in enumerate(objects_of(line, field)):
        speaker = next((message[key] for key in _SPEAKERS if key in message), None)
        text = next((message[key] for key in _TEXTS if key in message), None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise error_at(
                line,
                f"{field!r}, entry {number}: needs a text in one of {', '.join(_SPEAKERS)} and one of "
                f"{', '.join(_TEXTS)}, got {quoted(speaker)} and {quoted(text)}.",
            )
        is_user = speaker.strip().casefold() in users
        if not is_user:
            strangers.add(speaker)
        said.append((is_user, text))
    messages = _spoken(
        "\n".join(text for _, text in part if text.strip())
        for is_user, part in groupby(said, key=lambda entry: entry[0])
        if is_user
    )
    return UserDialogue(text_of(line, "id", "scenario", "case") or f"line {line.number}", messages)


def _spoken(texts: object) -> tuple[str, ...]:
    """Return the texts that are not blank."""
    return tuple(text for text in cast("Sequence[str]", texts) if text.strip())
