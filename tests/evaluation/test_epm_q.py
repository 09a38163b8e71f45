"""EPM-Q against values computed by hand and against the published table of the recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.evaluation.epm_q import INDEX_NAMES, score_dialogue, score_path, score_trajectory, scores_of
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn
from tests.recordings.made_dialogues import make_dialogue

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


def test_both_alignments_are_means_over_the_turns_and_only_the_fixed_one_is_in_the_score() -> None:
    # Cosines with the fixed direction 4/5 and 3/5, with the dynamic one 4/5 and 1 (test_progress.py).
    path = np.array([[-3.0, -4.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    score = score_path(path, np.array([[0.0, 2, 0], [2.0, 0, 0]]), np.zeros((2, 3)))
    assert score.alignment_fixed == pytest.approx(0.7)
    assert score.alignment_dynamic == pytest.approx(0.9)
    assert score.alignment == pytest.approx(50 * (1.4 / 3 + 1))  # The index: three points, the start with 0.


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


def one_turn(
    end: State, *, progress: float = 0, regress: float = 0, start: State = START
) -> dict[str, float]:
    """The indices of a dialogue of one turn from START (zone distance 4, norm 5) to `end`."""
    levels = np.array([[progress, 0, 0]]), np.array([[regress, 0, 0]])
    score = score_path(np.array([start, end]), *levels)
    return {name: getattr(score, name) for name in INDEX_NAMES}


def test_dialogue_that_goes_backwards_has_no_index_below_zero() -> None:
    # From 4 to 16 beyond the zone: RDI -300. E = -12, levels 1 - 2 = -1, the only cosine is -1.
    indices = one_turn((-17.0, 0.0, 0.0), progress=1, regress=-2)
    assert indices == pytest.approx(
        {
            "distance": 0, "energy": 0, "levels": 0, "density": 0, "projection": 0, "tortuosity": 100,
            "positive": 0, "alignment": 25, "penalty": 100 * (3 - 2 / 2) / 3,
        }
    )  # fmt: skip


def test_perfect_turn_may_exceed_100_only_where_the_score_allows_it() -> None:
    # Straight to +7: E = 12 of 1.2 x 4, levels 12 of 1.5 x 4, and 12 and 6 points a turn or point of 2.5.
    indices = one_turn((7.0, 0.0, 0.0), progress=12)
    assert indices == pytest.approx(
        {
            "distance": 100, "energy": 250, "levels": 200, "density": 480, "projection": 240,
            "tortuosity": 100, "positive": 50, "alignment": 75, "penalty": 100,
        }
    )  # fmt: skip


@pytest.mark.parametrize(("regress", "penalty"), [(-5.9, 5 / 3), (-6.0, 0.0), (-6.1, 0.0)])
def test_penalty_index_ends_at_three_levels_per_point(regress: float, penalty: float) -> None:
    assert one_turn((-4.0, 0.0, 0.0), regress=regress)["penalty"] == pytest.approx(penalty)


@pytest.mark.parametrize(("detour", "index"), [(0.9, 10.0), (1.0, 0.0), (1.1, 0.0)])
def test_tortuosity_index_ends_at_three_times_the_displacement(detour: float, index: float) -> None:
    # One point forward, `detour` points further and back: path 1 + 2 detour over a displacement of 1.
    states = np.array([START, (-4.0, 0, 0), (-4.0 + detour, 0, 0), (-4.0, 0, 0)])
    assert score_path(states, np.zeros((3, 3)), np.zeros((3, 3))).tortuosity == pytest.approx(index)


@pytest.mark.parametrize("axis", [-1.0, -0.5, 3.0])
def test_start_inside_the_zone_is_refused(axis: float) -> None:
    with pytest.raises(ValueError, match=r"must be outside the zone .*, got \["):
        one_turn((0.0, 0.0, 0.0), start=(axis, 0.0, 0.0))
    assert one_turn((0.0, 0.0, 0.0), start=(-1.001, 0.0, 0.0))["distance"] == 100


@pytest.mark.parametrize(
    ("num_states", "num_progress", "num_regress"), [(3, 1, 2), (3, 2, 1), (3, 3, 3), (1, 0, 0), (0, 0, 0)]
)
def test_levels_that_do_not_fit_the_path_are_refused(
    num_states: int, num_progress: int, num_regress: int
) -> None:
    shapes = rf"got \({num_states}, 3\), \({num_progress}, 3\), \({num_regress}, 3\)\."
    with pytest.raises(
        ValueError, match=rf"states must be \[T\+1, 3\] with T >= 1 and levels \[T, 3\], {shapes}"
    ):
        score_path(STATES[:num_states], np.zeros((num_progress, 3)), np.zeros((num_regress, 3)))


PAUSE = np.array([START, START, (-2.0, 0.0, 0.0), (-2.0, -2.0, 0.0)])
"""The path of STATES with a first turn that was not judged."""
PAUSED = {
    "judged": np.array([False, True, True]),
    "progress": np.vstack([np.zeros((1, 3)), PROGRESS]),
    "regress": np.vstack([np.zeros((1, 3)), REGRESS]),
}


@pytest.mark.parametrize(
    ("form", "judged_only", "num_turns"),
    [("own", False, 2), ("own", True, 2), ("run", False, 3), ("run", True, 2)],
)
def test_turn_without_a_judgement_counts_only_in_published_runs(
    form: str, judged_only: bool, num_turns: int
) -> None:
    score = score_dialogue(make_dialogue(PAUSE.tolist(), form=form, **PAUSED), judged_only=judged_only)
    assert (score.num_turns, score.num_failed) == (num_turns, 1)
    expected = score_path(PAUSE, PAUSED["progress"], PAUSED["regress"]) if num_turns == 3 else None
    assert score.score == (expected or score_path(STATES, PROGRESS, REGRESS)).score


def test_published_run_keeps_its_unjudged_turns_by_default() -> None:
    assert score_dialogue(make_dialogue(PAUSE.tolist(), form="run", **PAUSED)).num_turns == 3


def test_dialogues_without_a_score_are_refused_or_left_out() -> None:
    fine = make_dialogue(STATES.tolist(), progress=PROGRESS, regress=REGRESS)
    failed = make_dialogue(STATES.tolist(), is_failed=True)
    unjudged = make_dialogue(STATES.tolist(), judged=np.zeros(2, bool))
    without_turns = make_dialogue([START])
    for dialogue, reason in (
        (failed, "the dialogue failed"),
        (without_turns, "the dialogue failed"),
        (unjudged, "no turn was judged"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}$"):
            score_dialogue(dialogue)
    assert scores_of([failed, fine, unjudged]) == [score_path(STATES, PROGRESS, REGRESS)]


def test_score_without_failures_counts_none() -> None:
    assert score_path(STATES, PROGRESS, REGRESS).num_failed == 0
    assert score_path(STATES, PROGRESS, REGRESS, num_failed=4).num_failed == 4


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
