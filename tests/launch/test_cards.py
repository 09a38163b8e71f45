"""A run on EMPA cards gets their scenarios, and test cases never become training scenarios."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.domains.empa.cards import read_cards
from mica_ray.evaluation.evaluate import compare, summarize
from mica_ray.evaluation.tables import CONTAMINATED, comparison_table, evaluation_record, evaluations_table
from mica_ray.launch.card_source import describe_deck, fetch_cards, read_deck
from mica_ray.launch.domain_source import read_domain
from mica_ray.launch.preflight import check_run
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.run_writer import RunWriter
from mica_ray.types import Scenario
from tests.domains.empa.card_folder import name, real_cards, write_cards
from tests.small_policy import small_folder

EMPA = "mica_ray.domains.empa:EMPA"
STRANGER = replace(EMOTIONAL_SUPPORT.scenarios[0], split="train")
RECIPE = "from dataclasses import replace\nfrom mica_ray.domains import emotional_support as own\n"


def empa(folder: Path, **changes: object) -> RunConfig:
    return RunConfig.model_validate({"domain": EMPA, "cards": str(folder), **changes})


def policy_files(folder: Path) -> str:
    """Write a policy that a check accepts."""
    return str(small_folder(folder, tied=True))


def check(config: RunConfig) -> dict[str, str]:
    return dict(check_run(config, inline=True, environment={}, gpus_here=None).plan.lines)


def test_cards_are_the_scenarios_of_empa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the numbers below 37, only the hash of 1 selects validation.
    write_cards(tmp_path / "d", [1, 2, 3], official=[3])
    monkeypatch.chdir(tmp_path)
    domain = read_domain(empa(Path("d"))).played
    assert {item.id: item.split for item in domain.scenarios} == {
        name(1): "valid", name(2): "train", name(3): "test",
    }  # fmt: skip
    assert (domain.rules.max_turns, domain.rules.tolerance) == (45, 0.1)


def test_ratings_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1, 2], rated=[1])
    unrated = read_cards(folder).cards[1]
    levels = dict.fromkeys(("C.1", "C.2", "C.3", "A.1", "A.2", "A.3", "P.1", "P.2", "P.3"), 1)
    line = {"script_id": unrated.id, "digest": unrated.digest, "levels": levels}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line) + "\n")
    found = {
        item.id: item.initial_state
        for item in read_domain(empa(folder, card_ratings=tmp_path / "mine.jsonl")).played.scenarios
    }
    # Level 1 everywhere: C -2 - 2 - 3, A and P -2 - 4 - 3.
    assert found[name(2)] == (-7.0, -9.0, -9.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"domain": "mica_ray.domains.tutoring:TUTORING"}, "need domain empa, got tutoring"),
        ({"scenarios_file": "x.jsonl"}, "cards and scenarios_file both provide scenarios"),
        (
            {"cards": "./nowhere"},
            "cards ./nowhere: no such folder. Set cards to a folder or a hub dataset id.",
        ),
        (
            {"card_ratings": "no.jsonl"},
            "card_ratings no.jsonl: no such file. Create it with `mica data rate`.",
        ),
        ({"cards": None}, "domain empa has no scenarios. Set cards=FOLDER"),
        ({"cards": None}, "The cards are published at https://github.com/KAYA-HAI/"),
    ],
)
def test_what_cannot_be_played_is_one_line(tmp_path: Path, changes: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_domain(empa(write_cards(tmp_path / "d", [1]), **changes))
    assert line in str(caught.value)


def test_malformed_card_is_named_with_the_way_to_all_of_them(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "d", [1, 2, 3])
    for number in (1, 2):
        (folder / "cards" / f"{name(number)}.md").write_text("")
    with pytest.raises(
        ConfigError, match=r"cards/script_9001.md: text: the file is empty; .* \(1 more: `mica data check`\)"
    ):
        read_domain(empa(folder))


def test_folder_without_training_cards_says_why(tmp_path: Path) -> None:
    config = empa(
        write_cards(tmp_path / "d", [1, 2], official=[1, 2]),
        policy=policy_files(tmp_path / "p"),
    )
    with pytest.raises(
        ConfigError, match=r"every card whose P_0 is known is an official EMPA test case.*mica data rate"
    ):
        check(config)
    assert len(read_domain(override(config, ["allow_test_cards=true"])).played.split("train")) == 2


def _of_file(tmp_path: Path, scenario: Scenario) -> RunConfig:
    path = tmp_path / "mine.jsonl"
    written = asdict(replace(scenario, domain="emotional_support", opening=scenario.opening or "嗯。"))
    path.write_text(json.dumps(written) + "\n")
    return RunConfig(scenarios_file=path)


def _of_recipe(tmp_path: Path, scenario: Scenario) -> RunConfig:
    path = tmp_path / "recipe.py"
    path.write_text(
        f"{RECIPE}WHO = replace(\n"
        f"    own.EMOTIONAL_SUPPORT.scenarios[0], id={scenario.id!r}, split={scenario.split!r},\n"
        f"    persona={scenario.persona!r}, topic={scenario.topic!r}, stages={scenario.stages!r})\n"
        "MINE = replace(own.EMOTIONAL_SUPPORT, scenarios=(WHO,))\n"
    )
    return RunConfig(domain=f"{path}:MINE")


WAYS: dict[str, Callable[[Path, Scenario], RunConfig]] = {"file": _of_file, "recipe": _of_recipe}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_official_id_is_refused_however_it_is_named(tmp_path: Path, way: str, split: str) -> None:
    config = WAYS[way](tmp_path, replace(STRANGER, id="script_003", split=split))
    with pytest.raises(ConfigError) as caught:
        read_domain(config)
    assert f"scenario 'script_003' of split '{split}' is the official EMPA test case script_003. " in str(
        caught.value
    )
    assert "allow_test_cards=true" in str(caught.value) and "\n" not in str(caught.value)
    assert read_domain(override(config, ["allow_test_cards=true"])).played.scenarios[0].id == "script_003"


@pytest.mark.parametrize("way", WAYS)
def test_official_text_is_refused_under_another_id(tmp_path: Path, way: str) -> None:
    official = next(item for item in read_cards(real_cards()).scenarios("empa") if item.id == "script_063")
    config = WAYS[way](tmp_path, replace(official, id="my-own-01", split="train"))
    with pytest.raises(
        ConfigError, match=r"'my-own-01' of split 'train' is the official EMPA test case script_063"
    ):
        read_domain(config)


def test_test_split_may_hold_the_official_cases(tmp_path: Path) -> None:
    config = _of_file(tmp_path, replace(STRANGER, id="script_003", split="test"))
    assert read_domain(config).played.scenarios[0].id == "script_003"


def test_contamination_is_set_by_the_permission_and_kept(tmp_path: Path) -> None:
    config = override(RunConfig(), ["allow_test_cards=true"])
    assert (config.allow_test_cards, config.contaminated) == (True, True)
    assert not RunConfig().contaminated
    config.write(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["contaminated"] is True
    again = override(RunConfig.read(tmp_path / "config.json"), ["allow_test_cards=false"])
    assert (again.allow_test_cards, again.contaminated) == (False, True)


def test_contaminated_run_says_so_in_tracker_and_reports(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient
    from rich.console import Console

    nothing = summarize([], seed=0)
    for contaminated in (True, False):
        config = RunConfig(allow_test_cards=contaminated)
        folder = RunFolder.create(config, tmp_path / str(contaminated))
        writer = RunWriter(config, folder)
        tracker = writer.open(0, None)
        run_id = folder.read_tracking_run()
        assert run_id is not None
        tags = MlflowClient(tracking_uri=folder.tracking_uri).get_run(run_id).data.tags
        assert tags["contaminated"] == str(contaminated).lower()
        writer.write_evaluation("before", nothing, tracker, step=0)
        tracker.close()
        kept = json.loads((folder.path / "evaluation_before.json").read_text())
        assert kept["contaminated"] is contaminated
        assert evaluation_record(nothing, contaminated=contaminated)["contaminated"] is contaminated
        console = Console(record=True, width=100, file=io.StringIO())
        difference = compare(nothing, nothing, seed=0)
        console.print(evaluations_table("t", {"m": nothing}, contaminated=contaminated))
        console.print(comparison_table("t", nothing, nothing, difference, contaminated=contaminated))
        assert " ".join(console.export_text().split()).count(CONTAMINATED) == (2 if contaminated else 0)


def test_plan_names_cards_and_contamination(tmp_path: Path) -> None:
    policy = policy_files(tmp_path / "p")
    folder = write_cards(tmp_path / "d", range(20), official=[3])
    clean = check(empa(folder, policy=policy, rollout={"group_size": 2, "context_length": 256}))
    assert clean["cards"].startswith(
        f"20 from {folder}, 20 with P_0; 0 near-duplicates of test cards; the closest pair, "
    )
    assert "contaminated" not in clean
    dirty = check(
        empa(folder, policy=policy, allow_test_cards=True, rollout={"group_size": 2, "context_length": 256})
    )
    assert dirty["contaminated"] == CONTAMINATED


def test_embedded_policy_needs_a_domain_with_scenarios_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy=embedded .* empa has none. Set policy=MODEL"):
        check(empa(write_cards(tmp_path / "d", range(20), official=[3])))


def test_resumed_run_cannot_turn_to_test_cards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mica_ray.launch import run

    policy = policy_files(tmp_path / "p")
    config = RunConfig.model_validate({"policy": policy, "rollout": {"context_length": 256}})
    folder = RunFolder.create(config, tmp_path / "run")
    with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="started without test cards"):
        checked = run.check(override(config, ["allow_test_cards=true"]), inline=True)
        run.run_training(checked, resume=folder.path)
    assert CONTAMINATED in caplog.text


def test_real_cards_make_a_clean_training_set() -> None:
    place = real_cards()
    domain = read_domain(empa(place)).played
    assert len(domain.split("test")) == 30
    assert len(domain.split("train")) > 150
    assert not {item.id for item in domain.split("train")} & {item.id for item in domain.split("test")}
    assert describe_deck(read_deck(str(place))).startswith(
        f"1010 from {place}, {len(domain.scenarios)} with P_0; 0 near"
    )


def test_folder_is_taken_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert fetch_cards("a/b") == Path("a/b")
