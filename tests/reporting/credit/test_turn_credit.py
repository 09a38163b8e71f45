"""Credit recomputed from the log, checked by hand, and the rules that choose dialogues to read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mica_ray.config import RunConfig
from mica_ray.config.references import ConfigError
from mica_ray.credit import Grpo, Mica
from mica_ray.losses import LossConfig
from mica_ray.reporting.credit.turn_credit import (
    DialogueCredit,
    credit_dialogues,
    estimator_of,
    most_instructive,
)
from mica_ray.runs.stored_run import read_runs
from mica_ray.training.update import LearnerConfig
from tests.runs.written_run import dialogue, of_rewards, turn, write_run

MYOPIC = RunConfig(credit=Mica(alpha=0.5, gamma=0.0))


def credited(
    folder: Path, *lines: dict[str, object], config: RunConfig = MYOPIC
) -> tuple[DialogueCredit, ...]:
    return credit_dialogues(read_runs([write_run(folder / "run", config, dialogues=lines)])[0])


def test_terms_are_those_of_the_group_at_the_turn_and_of_all_its_turns(tmp_path: Path) -> None:
    one, other = credited(tmp_path, of_rewards(0, 0, 0, [-1, 3]), of_rewards(0, 0, 1, [0, 0]))
    # gamma 0: returns are the rewards. At turn 1, -1 against 0: z = -1, +1; at turn 2, 3 against 0: +1, -1.
    np.testing.assert_allclose(one.turn_term, [-1, 1], atol=1e-5)
    np.testing.assert_allclose(other.turn_term, [1, -1], atol=1e-5)
    # Rewards -1, 3, 0, 0 have mean 0.5 and variance (2.25 + 6.25 + 0.25 + 0.25) / 4 = 2.25.
    np.testing.assert_allclose(one.group_term, [-1, 5 / 3], atol=1e-5)
    np.testing.assert_allclose(one.mica, [-1, 4 / 3], atol=1e-5)
    # Sums 2 and 0: z = +1 for the one and -1 for the other, on both turns.
    np.testing.assert_allclose(one.grpo, [1, 1], atol=1e-5)
    # |-1 - 1| and |4/3 - 1|; only on turn 1 do the signs differ.
    assert one.disagreement == pytest.approx(7 / 6, abs=1e-5)
    assert (one.num_flips, one.dialogue.id) == (1, "0-0-0")


def test_mixed_credit_is_that_which_the_run_trained_on(tmp_path: Path) -> None:
    lines = [of_rewards(0, 0, 0, [-1, 3]), of_rewards(0, 0, 1, [0, 0])]
    trained = [[-1.0, 4 / 3], [1 / 3, -2 / 3]]
    for line, advantages in zip(lines, trained, strict=True):
        for entry, advantage in zip(line["turns"], advantages, strict=True):
            entry["advantage"] = advantage
    for one in credited(tmp_path, *lines):
        np.testing.assert_allclose(one.mica, one.dialogue.advantages, atol=1e-5)


def test_turn_without_a_judgement_has_no_credit_and_counts_nowhere(tmp_path: Path) -> None:
    one, other = credited(tmp_path, of_rewards(0, 0, 0, [2, None]), of_rewards(0, 0, 1, [0, 5]))
    np.testing.assert_array_equal(np.isnan(one.mica), [False, True])
    # At turn 2 only the other dialogue is left: nothing to compare with.
    np.testing.assert_allclose(other.turn_term, [-1, 0], atol=1e-5)


def test_tokens_weigh_as_their_turn_or_as_its_share_of_the_reply(tmp_path: Path) -> None:
    lines = [dialogue(0, 0, 0, [turn(0, 2.0), turn(1, -1.0, reply_tokens=1)])]
    (one,) = credited(tmp_path / "a", *lines)
    # The advantage, against the largest of the run: 2.
    np.testing.assert_allclose(one.token_weight, [1, -0.5])
    loss = LossConfig(aggregation="turn_mean")
    (one,) = credited(tmp_path / "b", *lines, config=RunConfig(learner=LearnerConfig(loss=loss)))
    # 2 over 4 tokens and -1 over one: 0.5 and -1 against the largest, 1.
    np.testing.assert_allclose(one.token_weight, [0.5, -1])


def test_run_of_another_credit_is_shown_beside_mica_as_published(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run", RunConfig(credit=Grpo()))])
    mica, text = estimator_of(run)
    assert mica == Mica()
    assert text.startswith("The run was trained with Grpo. The page shows the terms that Mica(alpha=0.5")


@pytest.mark.parametrize("form", ["text", "object"])
def test_a_report_runs_no_code_that_the_run_names(tmp_path: Path, form: str) -> None:
    mark, evil = tmp_path / "taken", tmp_path / "evil.py"
    evil.write_text(f"open({str(mark)!r}, 'w')\nclass Evil: ...\n")
    folder = write_run(tmp_path / "run", RunConfig())
    config = json.loads((folder / "config.json").read_text())
    config["credit"] = f"{evil}:Evil" if form == "text" else {"object": f"{evil}:Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (run,) = read_runs([folder])
    mica, text = estimator_of(run)
    assert mica == Mica()
    assert "trained with Evil" in text
    assert not mark.exists()


def test_line_that_lacks_what_credit_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dialogues\.jsonl, line 1: turn 0: field 'state' must be"):
        credited(tmp_path, {"step": 0, "group": 0, "sample": 0, "initial_state": [-5, 0, 0], "turns": [{}]})


def test_instructive_dialogues_are_chosen_by_rules_from_different_groups(tmp_path: Path) -> None:
    lines = [
        *(of_rewards(0, 0, sample, rewards) for sample, rewards in enumerate([[-1, 3], [0, 0]])),
        *(of_rewards(0, 1, sample, rewards) for sample, rewards in enumerate([[1, 1], [0, 0]])),
    ]
    picks = most_instructive(credited(tmp_path, *lines))
    # Of the first group dialogue 0 disagrees most (7/6); in the second rewards of 1, 1 against 0, 0
    # give +1 and -1 by every term and by GRPO.
    assert (picks[0].chosen.dialogue.id, picks[0].rule) == ("0-0-0", "MICA and GRPO disagree most")
    places = [(pick.chosen.dialogue.step, pick.chosen.dialogue.group) for pick in picks]
    assert len(places) == len(set(places)) == 2


def test_ten_are_chosen_where_there_are_more(tmp_path: Path) -> None:
    lines = [
        of_rewards(0, group, sample, rewards)
        for group in range(12)
        for sample, rewards in enumerate([[-1, 3 + group], [0, 0]])
    ]
    assert len(most_instructive(credited(tmp_path, *lines))) == 10
