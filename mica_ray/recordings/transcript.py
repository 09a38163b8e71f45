"""The JSON form of a dialogue, equal in every file. case_log.py and dialogue_log.py write the files."""

from __future__ import annotations

from mica_ray.dialogue.answer_counts import count_failures
from mica_ray.types import Trajectory, Turn


def transcript(trajectory: Trajectory) -> dict[str, object]:
    """Return the JSON form of one dialogue: `transcript_head`, and `turns`, a list of `transcript_turn`."""
    return {**transcript_head(trajectory), "turns": [transcript_turn(turn) for turn in trajectory.turns]}


def transcript_head(trajectory: Trajectory) -> dict[str, object]:
    """Return the fields that describe the dialogue as a whole.

    Keys: domain, scenario, category, dominant_axis, difficulty, group, sample, stop, error,
    director_failures, failures, initial_state.
    """
    return {
        "domain": trajectory.scenario.domain,
        "scenario": trajectory.scenario.id,
        "category": trajectory.scenario.category,
        "dominant_axis": trajectory.scenario.dominant_axis,
        "difficulty": trajectory.scenario.difficulty,
        "group": int(trajectory.group),
        "sample": int(trajectory.sample),
        "stop": str(trajectory.stop),
        "error": trajectory.error,
        "director_failures": trajectory.director_failures,
        "failures": count_failures([trajectory]),
        "initial_state": list(trajectory.scenario.initial_state),
    }


def transcript_turn(turn: Turn) -> dict[str, object]:
    """Return one turn; missing values (a failed judgement, a text-only policy) are null, never 0."""
    judgement, generation = turn.judgement, turn.generation
    return {
        "index": turn.index,
        "user": turn.user,
        "reply": turn.reply,
        "guidance": turn.guidance,
        "progress": None if judgement.progress is None else list(judgement.progress),
        "regress": None if judgement.regress is None else list(judgement.regress),
        "delta": None if judgement.delta is None else list(judgement.delta),
        "state": list(turn.state_after),
        "status": str(judgement.status),
        "judge_error": judgement.error,
        "is_silent": turn.is_silent,
        "judge_finish_reason": judgement.finish_reason,
        "answers": [
            {
                "role": answer.role,
                "status": str(answer.status),
                "error": answer.error,
                "finish_reason": answer.finish_reason,
                "is_early_end": answer.is_early_end,
            }
            for answer in turn.answers
        ],
        "evidence": dict(judgement.evidence),
        "unfound_evidence": judgement.unfound_evidence,
        "policy_version": None if generation is None else generation.policy_version,
        "reply_tokens": None if generation is None else len(generation.token_ids),
        "finish_reason": turn.finish_reason if generation is None else generation.finish_reason,
    }
