"""Reading the user's copy: kinds, turns, prompts, criteria, notes; and what is wrong with a broken copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from mica_ray.benchmarks.eqbench3.items import DEBRIEF, NO_NOTES, SCORED, EqBench3, filled
from mica_ray.benchmarks.question import BenchmarkDataError
from tests.benchmarks.eqbench3.small_benchmark import FILES, STYLE, item_of, write_benchmark


def test_item_has_kind_category_and_prompts(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    assert [(item.id, item.kind, item.category) for item in data.items] == [
        ("1", "role-play", "Work"),
        ("8", "direct", "Friend"),
        ("208", "drafting", "Friend"),
        ("401", "analysis", "Analytical Interpretation"),
    ]
    assert item_of(data, "role-play").prompts == (
        "A parcel is lost.\n\nIt was yours.",
        "Your boss asks about it.",
    )
    # Headings with fewer marks belong to the text of an analysis.
    assert item_of(data, "analysis").prompts[0].startswith("# Scenario act 1\n")


def test_item_without_a_numbered_prompt_is_left_out_and_named(tmp_path: Path) -> None:
    assert EqBench3(write_benchmark(tmp_path)).skipped == ("409",)


@pytest.mark.parametrize(
    ("number", "kind"),
    [("200", "role-play"), ("201", "drafting"), ("209", "drafting"), ("210", "role-play"),
     ("400", "role-play"), ("401", "analysis"), ("7", "role-play"), ("14", "direct")],
)  # fmt: skip
def test_kind_follows_from_the_id(tmp_path: Path, number: str, kind: str) -> None:
    prompts = f"######## {number} | Work | Title\n####### Prompt1\nText."
    (item,) = EqBench3(write_benchmark(tmp_path, scenario_prompts=prompts)).items
    assert item.kind == kind


def test_turns_use_the_prompt_of_their_kind_and_end_with_the_debrief(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    names = {item.kind: [name for name, _ in data.turns(item)] for item in data.items}
    assert names == {
        "role-play": ["1", "2", DEBRIEF],
        "direct": ["1", DEBRIEF],
        "drafting": ["1", DEBRIEF],
        "analysis": ["1"],
    }
    assert data.turns(item_of(data, "analysis"))[0][1].startswith("[TALK]\n# Scenario act 1")
    # A direct talk has no other prompt around it, and a place in an item is text.
    assert data.turns(item_of(data, "direct")) == (
        ("1", "Tell me about {debrief} parcels."),
        (DEBRIEF, "How did it go?"),
    )


def test_headings_criteria_and_notes_come_from_the_files(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    assert data.headings("role-play") == ("I'm feeling", "They're feeling", "My reply")
    assert data.headings("drafting") == ("Plan", "Draft")
    assert data.headings("direct") == data.headings("analysis") == ()
    assert data.criteria("drafting") == (*SCORED["role-play"], *STYLE)
    assert data.compared_criteria("role-play") == ("warmth", "overall_eq")
    assert data.compared_criteria("analysis") == ("overall_eq",)
    assert data.notes(item_of(data, "role-play")) == "The parcel stands for trust."
    assert data.notes(item_of(data, "analysis")) == NO_NOTES


def test_data_folder_inside_the_named_one_is_found(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "data")
    assert len(EqBench3(tmp_path).items) == 4


def test_digests_tell_which_records_a_changed_file_concerns(tmp_path: Path) -> None:
    one, other, third = (
        EqBench3(write_benchmark(tmp_path / str(number), **changed))
        for number, changed in enumerate(({}, {"debrief_prompt": "And?"}, {"scenario_notes": "# 1\nNone."}))
    )
    assert one.played_digest != other.played_digest and one.judged_digest == other.judged_digest
    assert one.played_digest == third.played_digest and one.judged_digest != third.judged_digest


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"scenario_prompts": "nothing"}, "holds no item"),
        ({"scenario_prompts": FILES["scenario_prompts.txt"] * 2}, "one twice"),
        ({"rubric_scoring_prompt": "{transcript} {debrief}"}, "no place {output_format}"),
        ({"rubric_scoring_criteria_analysis": "correctness"}, "analysis lack depth_of_insight"),
    ],
)
def test_broken_copy_is_refused(tmp_path: Path, changed: dict[str, str], problem: str) -> None:
    with pytest.raises(BenchmarkDataError, match=problem):
        EqBench3(write_benchmark(tmp_path, **changed))


def test_missing_file_is_named(tmp_path: Path) -> None:
    (write_benchmark(tmp_path) / "debrief_prompt.txt").unlink()
    with pytest.raises(BenchmarkDataError, match=r"debrief_prompt\.txt cannot be read .* --data"):
        EqBench3(tmp_path)


def test_comparison_without_criteria_is_refused(tmp_path: Path) -> None:
    prompt = FILES["pairwise_prompt_eqbench3.txt"].replace("winner", "rating")
    data = EqBench3(write_benchmark(tmp_path, pairwise_prompt_eqbench3=prompt))
    with pytest.raises(BenchmarkDataError, match="names no criterion"):
        data.compared_criteria("role-play")


def test_filled_place_is_not_filled_again() -> None:
    assert filled("{a}{b}{c}", a="{b}", b="{a}") == "{b}{a}{c}"


def test_published_copy_has_45_items_and_118_turns(benchmark_data: Path) -> None:
    data = EqBench3(benchmark_data / "eqbench3")
    kinds = [item.kind for item in data.items]
    assert (len(kinds), kinds.count("role-play"), kinds.count("drafting"), kinds.count("analysis")) == (
        45, 25, 1, 19,
    )  # fmt: skip
    assert data.skipped == ("409",)
    assert sum(len(data.turns(item)) for item in data.items) == 118
    assert len(data.criteria("role-play")) == 18 and len(data.criteria("analysis")) == 6
    assert len(data.headings("role-play")) == len(data.headings("drafting")) == 3
    assert len(data.compared_criteria("role-play")) == len(data.compared_criteria("analysis")) == 8
