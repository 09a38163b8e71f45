"""`mica credit noise`: noise from options or a card, predicted and measured; wrong requests exit with 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_credit import credit, refused
from tests.evaluation.recorded_files import write
from tests.recordings.stored_files import run_dialogue


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four cases, each with two dialogues of two turns."""
    dialogues = [
        run_dialogue(40, 40 - gain, 39 - 2 * gain, case=f"case {case}", model=f"model {gain}")
        for case in range(4)
        for gain in (0, 2 + case)
    ]
    return write(tmp_path / "runs.jsonl", dialogues)


def test_prediction_and_measurement_agree_on_a_file(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, picture = tmp_path / "noise.json", tmp_path / "noise.png"
    options = ("--group-size", "2", "--group-size", "4", "--draws", "200", "--alpha", "0.5")
    # Noise on C only, where all distance is: the other needs are at the border of the zone.
    credit("noise", runs, "--noise", "1,0,0", *options, "--json", record, "--out", picture)
    shown = capsys.readouterr().out
    assert "N = 2" in shown and "Over 4 groups" in shown
    assert "N = 4" in shown and "Over 2 groups" in shown
    found = json.loads(record.read_text())["group_sizes"]
    assert set(found) == {"2", "4"}
    two = found["2"]
    assert (two["num_groups"], two["num_left_out"]) == (4, 0)
    assert two["noise_sd"] == {"C": 1.0, "A": 0.0, "P": 0.0}
    assert two["reward_sd"] == pytest.approx(1.0, abs=0.01)
    assert list(two["estimators"])[:2] == ["mica, alpha 0.5", "return-to-go"]
    for size in found.values():
        for one in size["estimators"].values():
            # Few turns: a correlation of one draw varies, so their mean differs from that of the moments.
            assert one["predicted"] == pytest.approx(one["measured"]["mean"], abs=0.03)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_only_predicts_without_draws(runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    credit("noise", runs, "--neighbour", "0.1", "--estimator", "turn-gae", "--json", tmp_path / "n.json")
    shown = capsys.readouterr().out
    assert "predicted" in shown and "±" not in shown
    assert "as recorded" in shown and "Over 4 groups" in shown
    found = json.loads((tmp_path / "n.json").read_text())["group_sizes"]["recorded"]["estimators"]
    assert list(found) == ["mica, alpha 0", "mica, alpha 0.5", "mica, alpha 1", "turn-gae"]
    assert found["turn-gae"] == {"predicted": None, "measured": None}
    assert 0 < found["mica, alpha 0.5"]["predicted"] < 1


def test_noise_is_read_from_a_card(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "card.json"
    one = {"noise_sd": {"C": 0.5, "A": 1.0, "P": 2.0}}
    card.write_text(json.dumps({"judges": {"first": one, "second": {"noise_sd": None}}}))
    credit("noise", runs, "--card", card, "--judge", "first", "--json", tmp_path / "n.json")
    found = json.loads((tmp_path / "n.json").read_text())["group_sizes"]["recorded"]
    assert found["noise_sd"] == {"C": 0.5, "A": 1.0, "P": 2.0}
    # The covariance, if there is one, has the correlation of the axes too.
    one["noise_covariance"] = [[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]  # pyright: ignore
    (tmp_path / "own.json").write_text(json.dumps(one))
    credit("noise", runs, "--card", tmp_path / "own.json", "--json", tmp_path / "n.json")
    found = json.loads((tmp_path / "n.json").read_text())["group_sizes"]["recorded"]
    assert found["noise_sd"] == {"C": 2.0, "A": 1.0, "P": 0.0}
    capsys.readouterr()
    assert "first, second. Choose one with --judge" in refused(capsys, "noise", runs, "--card", card)
    third = ("noise", runs, "--card", card, "--judge", "third")
    assert "describes first, second, not third" in refused(capsys, *third)
    second = ("noise", runs, "--card", card, "--judge", "second")
    assert "has no noise_sd" in refused(capsys, *second)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "No noise given"),
        (("--noise", "much"), "--noise must be one number"),
        (("--noise", "1,2"), "--noise must be one number"),
        (("--noise", "-1"), ">= 0"),
        (("--noise", "nan"), "finite"),
        (("--noise", "1", "--card", "c.json"), "--noise and --card"),
        (("--card", "/no/card.json"), "/no/card.json"),
        (("--neighbour", "1.5"), "neighbour must be in [0, 1], got 1.5"),
        (("--noise", "1", "--group-size", "9"), "No batch has 9 dialogues"),
        (("--noise", "1", "--draws", "1"), "draws must be >= 2, got 1"),
        (("--noise", "1", "--alpha", "2"), "alpha must be in [0, 1], got 2"),
    ],
)
def test_invalid_request_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in refused(capsys, "noise", runs, *options)
