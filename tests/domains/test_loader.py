"""The errors a user sees for a wrong domain path or scenario file, and what a right one gives."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mica_ray.domains.loader import ScenarioError, load_domain, load_scenarios
from mica_ray.domains.tutoring import TUTORING
from mica_ray.types import Scenario

GOOD: dict[str, object] = {
    "id": "own-01",
    "category": "work",
    "dominant_axis": "A",
    "persona": "A cook.",
    "opening": "I am tired.",
    "initial_state": [-4, -7.5, 0],
    "stages": ["I feel empty.", "I don't know how to start."],
    "split": "test",
}


def _write(folder: Path, *lines: object) -> Path:
    path = folder / "own.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_file_gives_scenarios_in_order(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD, "", GOOD | {"id": "own-02", "language": "zh-CN", "domain": "support"}, "")
    first, second = load_scenarios(path, "support")
    assert first == Scenario(
        id="own-01",
        domain="support",
        category="work",
        dominant_axis="A",
        persona="A cook.",
        opening="I am tired.",
        initial_state=(-4.0, -7.5, 0.0),
        stages=("I feel empty.", "I don't know how to start."),
        split="test",
    )
    assert (second.id, second.language) == ("own-02", "zh")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(opening=st.text(min_size=1).filter(lambda text: bool(text.strip())), state=st.integers(-1000, -1))
def test_what_is_written_is_what_is_read(tmp_path: Path, opening: str, state: int) -> None:
    scenario = dataclasses.replace(TUTORING.scenarios[0], opening=opening, initial_state=(0.0, state, -1.5))
    path = _write(tmp_path, json.dumps(dataclasses.asdict(scenario)))
    assert load_scenarios(path, "tutoring") == (scenario,)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_missing_field_is_named_with_file_and_line(tmp_path: Path, name: str) -> None:
    bad = {key: value for key, value in GOOD.items() if key != name} | {"language": "en"}
    path = _write(tmp_path, GOOD | {"id": "own-00"}, "", bad)
    # The blank line counts: the third line of the file is the wrong one.
    with pytest.raises(ScenarioError, match=rf"own\.jsonl, line 3: field '{name}' is missing"):
        load_scenarios(path, "support")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("id", 7, "a text that is not empty"),
        ("opening", "  ", "a text, or empty if the simulated user writes the opening"),
        ("opening", None, "a text, or empty if the simulated user writes the opening"),
        ("persona", None, "a text that is not empty"),
        ("split", "dev", "'train' or 'valid' or 'test'"),
        ("split", ["train"], "'train' or 'valid' or 'test'"),
        ("dominant_axis", "c", "'C' or 'A' or 'P'"),
        ("domain", "tutoring", "'support'"),
        ("stages", "I feel empty.", "a list of at least one text"),
        ("stages", [], "a list of at least one text"),
        ("stages", ["I feel empty.", 3], "a text that is not empty"),
        ("priorities", ["high", "low"], "a list of three of high, mid, low"),
        ("priorities", ["high", "low", "top"], "a list of three of high, mid, low"),
        ("priorities", {"A": "high"}, "a list of three of high, mid, low"),
        ("initial_state", [-4, 0.5, -3], "from -1000 to 0"),
        ("initial_state", [0, 0, 0], "not all 0"),
        ("initial_state", [-4, -3], "three numbers"),
        ("initial_state", {"C": -4}, "three numbers"),
        ("initial_state", [-4, "-3", -3], "three numbers"),
        ("initial_state", [-4, False, -3], "three numbers"),
        ("initial_state", [-4, float("nan"), -3], "three numbers"),
        ("initial_state", [-4, float("-inf"), -3], "three numbers"),
        ("initial_state", [-4, -(10**400), -3], "three numbers"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(
    tmp_path: Path, name: str, value: object, allowed: str
) -> None:
    path = _write(tmp_path, GOOD | {name: value})
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(path, "support")
    assert str(caught.value).startswith(f"{path}, line 1: field '{name}' must be ")
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_field_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD | {"stage": []})
    with pytest.raises(ScenarioError, match="line 1: field 'stage' is unknown; the fields are id, domain"):
        load_scenarios(path, "support")


def test_opening_may_be_left_to_the_simulated_user(tmp_path: Path) -> None:
    (scenario,) = load_scenarios(_write(tmp_path, GOOD | {"opening": ""}), "support")
    assert scenario.opening == ""


def test_priorities_are_read_in_the_order_of_the_axes(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD | {"priorities": ["low", "", "high"]})
    assert load_scenarios(path, "support")[0].priorities == ("low", "", "high")


def test_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD, GOOD | {"id": "own-02"}, GOOD)
    with pytest.raises(ScenarioError, match=r"line 3: field 'id': 'own-01' is already in .*, line 1\."):
        load_scenarios(path, "support")


@pytest.mark.parametrize("line", ['{"id": "own-02"', "own-02", "9" * 5000, "[" * 100_000], ids=len)
def test_broken_json_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = _write(tmp_path, GOOD, line)
    with pytest.raises(ScenarioError, match=r"own\.jsonl, line 2: not valid JSON"):
        load_scenarios(path, "support")


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "null"])
def test_line_that_is_no_object_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ScenarioError, match="line 1: must be a JSON object, got"):
        load_scenarios(_write(tmp_path, line), "support")


def test_file_without_scenarios_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"own\.jsonl contains no scenario"):
        load_scenarios(_write(tmp_path, "", "  "), "support")
    with pytest.raises(ScenarioError, match=r"none\.jsonl cannot be read"):
        load_scenarios(tmp_path / "none.jsonl", "support")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "caf\xe9"}')
    with pytest.raises(ScenarioError, match=r"latin\.jsonl, line 1: not valid JSON"):
        load_scenarios(tmp_path / "latin.jsonl", "support")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mica_ray.domains.tutoring", "must be module:NAME"),
        ("mica_ray.domains.tutoring:", "must be module:NAME"),
        (":TUTORING", "must be module:NAME"),
        ("..tutoring:TUTORING", "must be module:NAME"),
        ("mica_ray.domains.cooking:COOKING", "there is no module 'mica_ray.domains.cooking'"),
        ("cooking.lessons:COOKING", "there is no module 'cooking.lessons'"),
        ("mica_ray.types.lessons:COOKING", "there is no module 'mica_ray.types.lessons'"),
        ("mica_ray.domains.tutoring:tutoring", "contains no Domain 'tutoring'. Its domains: TUTORING"),
        ("mica_ray.types:Scenario", "contains no Domain 'Scenario'. Its domains: none"),
    ],
)
def test_wrong_domain_path_is_named(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_domain(path)


@pytest.mark.parametrize("language", ["zh-CN", "ZH", "zh_Hans", "中文", "Chinese"])
def test_language_is_matched_by_its_primary_subtag(tmp_path: Path, language: str) -> None:
    (scenario,) = load_scenarios(_write(tmp_path, GOOD | {"language": language}), "support")
    assert scenario.language == "zh"


@pytest.mark.parametrize("language", ["fr", "de-AT", "zha", "", " ", None, 7, ["en"], "und", "-"])
def test_language_without_prompts_is_refused_with_the_supported_ones(
    tmp_path: Path, language: object
) -> None:
    with pytest.raises(ScenarioError, match=r"line 1: field 'language' must be 'en' or 'zh'"):
        load_scenarios(_write(tmp_path, GOOD | {"language": language}), "support")


def test_files_left_by_systems_and_editors_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, GOOD)
    (tmp_path / "own.jsonl").rename(tmp_path / "OWN.JSONL")
    for name in ("._own.jsonl", "~$own.jsonl", ".~lock.own.jsonl#", "own.jsonl~", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert [scenario.id for scenario in load_scenarios(tmp_path, "support")] == ["own-01"]
    assert "._own.jsonl" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (GOOD, GOOD, "field 'id': 'own-01' is already in"),
        (GOOD, GOOD | {"persona": "Another."}, "field 'id': 'own-01' is already in"),
        (GOOD, GOOD | {"id": "own-02"}, "'own-02' has the same texts as the scenario in"),
        (GOOD, GOOD | {"id": "own-02", "split": "train", "topic": "work"}, "'own-02' has the same texts"),
        (
            GOOD | {"id": "a\ud800"},
            GOOD | {"id": "a\udfff", "persona": "B."},
            "field 'id': 'a\ufffd' is already in",
        ),
    ],
)
def test_duplicates_name_both_places(
    tmp_path: Path, first: dict[str, object], second: dict[str, object], problem: str
) -> None:
    for name, fields in (("a.jsonl", first), ("b.JSONL", second)):
        (tmp_path / name).write_text("\n" + json.dumps(fields))
    with pytest.raises(ScenarioError, match=problem) as caught:
        load_scenarios(tmp_path, "support")
    assert f"{tmp_path / 'a.jsonl'}, line 2" in str(caught.value)
    assert f"{tmp_path / 'b.JSONL'}, line 2" in str(caught.value)


def test_field_written_twice_in_one_line_is_refused(tmp_path: Path) -> None:
    line = json.dumps(GOOD).replace('"id": "own-01"', '"id": "own-01", "id": "own-02"')
    with pytest.raises(ScenarioError, match=r"line 1: .*key 'id' occurs twice"):
        load_scenarios(_write(tmp_path, line), "support")
