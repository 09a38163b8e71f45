"""Lines of SAGE dialogues: an emotion value per user message. evaluation/emotion_score.py scores them."""

from __future__ import annotations

import numpy as np

from mica_ray.domains.sage import EMOTION
from mica_ray.files import JsonLine
from mica_ray.recordings.json_fields import error_at, number_of, objects_of, quoted, text_of
from mica_ray.recordings.recorded_dialogue import RecordedDialogue


def read_emotion_dialogue(line: JsonLine, *, model: str) -> RecordedDialogue:
    """Read one SAGE dialogue: history (messages, the user's with emotion-point), emo_point, id, task.

    A user message without a valid emotion value is a turn that was not rated: it is ignored and noted. The
    states hold the emotion on axis A, as domains/sage.py does; the task becomes the category.

    Args:
        line: the JSON object.
        model: name used when the record has none.

    Raises:
        RecordingError: no message has an emotion value.
    """
    scenario = text_of(line, "id", "case") or f"line {line.number}"
    emotions: list[float] = []
    notes: list[str] = []
    for number, message in enumerate(objects_of(line, "history")):
        if message.get("role") != "user":
            continue
        value = number_of(message.get("emotion-point"))
        if value is None or not 0 <= value <= EMOTION.top:
            found = quoted(message.get("emotion-point"))
            notes.append(f"{scenario}, message {number}: emotion-point {found} is not in 0..100: ignored")
            continue
        emotions.append(value)
    if not emotions:
        raise error_at(line, "field 'history': no user message has an 'emotion-point' in 0..100.")
    final = number_of(line.fields.get("emo_point"))
    if final is not None and final != emotions[-1]:
        notes.append(
            f"{scenario}: emo_point {final:g} is used; the last message has emotion-point {emotions[-1]:g}"
        )
    num_turns = len(emotions) - 1
    unrecorded, no_levels = np.full(num_turns, np.nan), np.zeros((num_turns, 3))
    states = np.zeros((len(emotions), 3))
    states[:, 1] = np.array(emotions) - EMOTION.top
    return RecordedDialogue(
        line=line,
        form="emotion",
        model=text_of(line, "model") or model,
        scenario=scenario,
        states=states,
        progress=no_levels,
        regress=no_levels,
        judged=np.ones(num_turns, dtype=bool),
        rewards=unrecorded,
        returns=unrecorded,
        advantages=unrecorded,
        reply_tokens=unrecorded,
        category=text_of(line, "task"),
        emotions=np.array(emotions),
        final_emotion=emotions[-1] if final is None else final,
        notes=tuple(notes),
    )
