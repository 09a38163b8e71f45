"""EPM-Q against values computed by hand and against the published table of the recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.evaluation.epm_q import INDEX_NAMES, score_path, score_trajectory
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn

START: State = (-5.0, 0.0, 0.0)  # zone distance 4, norm 5, v* = (1, 0, 0)

# Turn 1 moves C by +3 (progress level 2), turn 2 moves A by -2 (regress level -1).
STATES = np.array([START, (-2.0, 0.0, 0.0), (-2.0, -2.0, 0.0)])
PROGRESS = np.array([[2, 0, 0], [0, 0, 0]])
REGRESS = np.array([[0, 0, 0], [0, -1, 0]])


def make_trajectory(turns: tuple[Turn, ...]) -> Trajectory:
    scenario = Scenario(
        id="s1", domain="d", category="c", dominant_axis="C", persona="", opening="hi", initial_state=START,
        stages=(), split="test",
    )  # fmt: skip
    return Trajectory(scenario=scenario, group=0, sample=0, turns=turns, stop=Stop.LIMIT)


def judged(index: int, progress: tuple[int, int, int], regress: tuple[int, int, int], after: State) -> Turn:
    judgement = Judgement(progress=progress, regress=regress, delta=(0.0, 0.0, 0.0))
    return Turn(index=index, user="u", reply="r", judgement=judgement, state_after=after)


def test_two_turn_path_has_the_score_done_by_hand() -> None:
    score = score_path(STATES, PROGRESS, REGRESS)
    # D_T = sqrt(1 + 1): RDI = 100 (4 - 1.414214) / 4 = 64.6447. E = 3 + 0. Path 5, displacement sqrt(13),
    # so tau = 1.386750.
    expected = {
        "distance": (64.644661 + 100) / 2,
        "energy": 3 / (1.2 * 4) * 100,
        "levels": (2 - 1) / (1.5 * 4) * 100,
        "density": (3 / 2) / 2.5 * 100,
        "projection": (3 / 3) / 2.5 * 100,
        "tortuosity": (3 - 1.386750) / 2 * 100,
        "positive": 100 / 3,  # one point of three, the start included
        "alignment": (1 / 3 + 1) / 2 * 100,  # cosines 0 (start), 1, 0
        "penalty": (3 - 1 / 3) / 3 * 100,  # one regress level over three points
    }
    assert {name: getattr(score, name) for name in INDEX_NAMES} == pytest.approx(expected, abs=1e-4)
    # 0.4 * 53.8297 + 0.2 * 60.2208 + 0.4 * 62.9630
    assert score.score == pytest.approx(58.7612, abs=1e-3)


def test_failed_judgement_is_left_out_and_counted() -> None:
    failed = Turn(
        index=1,
        user="u",
        reply="r",
        judgement=Judgement.failed(Status.TIMED_OUT, "late"),
        state_after=(-2.0, 0.0, 0.0),
    )
    trajectory = make_trajectory(
        (
            judged(0, (2, 0, 0), (0, 0, 0), (-2.0, 0.0, 0.0)),
            failed,
            judged(2, (0, 0, 0), (0, -1, 0), (-2.0, -2.0, 0.0)),
        )
    )
    score = score_trajectory(trajectory)
    assert score is not None
    assert score.score == score_path(STATES, PROGRESS, REGRESS).score
    assert (score.num_turns, score.num_failed) == (2, 1)


def test_dialogue_without_any_judgement_has_no_score() -> None:
    failed = Turn(
        index=0, user="u", reply="r", judgement=Judgement.failed(Status.INVALID, "no"), state_after=START
    )
    assert score_trajectory(make_trajectory((failed,))) is None


def test_path_that_returns_to_its_start_earns_no_tortuosity() -> None:
    states = np.array([START, (-2.0, 0.0, 0.0), START])
    assert score_path(states, np.zeros((2, 3)), np.zeros((2, 3))).tortuosity == 0


def test_start_inside_the_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the zone"):
        score_path(np.array([(-1.0, 0.0, 0.0), (0.0, 0.0, 0.0)]), np.zeros((1, 3)), np.zeros((1, 3)))


def test_levels_that_do_not_fit_the_path_are_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        score_path(STATES, PROGRESS[:1], REGRESS)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3, *[st.integers(-2, 0)] * 3), min_size=1, max_size=20),
    st.integers(0, 19),
)
def test_one_more_regress_level_never_raises_the_score(levels: list[tuple[int, ...]], turn: int) -> None:
    # The path stays the same; only the counted levels change.
    array = np.array(levels)
    progress, regress = array[:, :3], array[:, 3:]
    worse = regress.copy()
    worse[turn % len(levels), 0] = max(-2, worse[turn % len(levels), 0] - 1)
    states = np.vstack([START, START + np.cumsum(progress + regress, axis=0)])
    assert score_path(states, progress, worse).score <= score_path(states, progress, regress).score + 1e-9


@pytest.mark.parametrize(
    ("model", "published"),
    [("gemini-2.5-pro", 90.7), ("seed-1.6", 43.1), ("gpt-4o", 33.7), ("qwen3-8b", 12.2)],
)
def test_recorded_runs_reproduce_the_published_score(
    benchmark_data: Path, model: str, published: float
) -> None:
    lines = (benchmark_data / "empa" / "recorded_runs" / f"{model}.jsonl").read_text().splitlines()
    scores = [score_path(*read_recorded_path(json.loads(line)["trajectory"])).score for line in lines]
    assert len(scores) == 30
    assert np.mean(scores) == pytest.approx(published, abs=0.1)


def read_recorded_path(points: list[dict[str, object]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read states and levels without recordings/; unknown keys and text values count as level 0."""

    def level(point: dict[str, object], key: str) -> int:
        levels = point["levels"]
        found = levels.get(key, 0) if isinstance(levels, dict) else 0
        return found if isinstance(found, int) else 0

    states = np.array([point["P_t"] for point in points], dtype=np.float64)
    progress = np.array([[level(point, f"{axis}_Prog_level") for axis in "CAP"] for point in points[1:]])
    regress = np.array([[level(point, f"{axis}_Neg_level") for axis in "CAP"] for point in points[1:]])
    return states, progress, regress
