"""The command line as a user sees it: help, dry run, one line for invalid input, a whole tiny run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mica_ray.cli import main
from tests.evaluation.recorded_files import RUN_SCORE, run_case, write
from tests.small_policy import small_folder

TINY = (
    "--set", "loop.num_steps=1", "--set", "loop.scenarios_per_step=1", "--set", "learner.mini_batches=1",
    "--set", "rollout.group_size=2",
    "--set", "evaluation.max_scenarios=1", "--set", "evaluation.samples=1",
    "--set", "rollout.sampling.max_tokens=4",
    "--set", "rollout.context_length=512", "--set", "loop.track_policy=false",
)  # fmt: skip


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line on stderr of a command that exits with 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("mica: ")
    assert error.count("\n") == 1
    return error


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("policy") / "small", tied=True)


@pytest.fixture(scope="module")
def finished_run(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    table = folder.parent / "table.json"
    run(
        "train",
        "--inline",
        "--set",
        f"policy={policy}",
        "--set",
        f"out={folder}",
        "--json",
        str(table),
        *TINY,
    )
    return folder


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; from mica_ray.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'transformers', 'vllm', 'mlflow', 'deepspeed', 'pandas'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in ("train", "evaluate", "chat"))


def test_recorded_dialogues_are_scored_into_a_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "runs.jsonl", [run_case(), run_case("script_002")])
    run("evaluate", "rescore", str(path), "--check-endings", "--json", str(tmp_path / "out.json"))
    record = json.loads((tmp_path / "out.json").read_text())["helper-1"]
    assert (record["passed"], record["cases"], len(record["indices"])) == (0, 2, 9)
    assert record["epm_q"] == pytest.approx(RUN_SCORE, abs=1e-3)
    assert record["endings"]["differences"] == []
    assert "Endings by our rules (a = 0.1): 2 of 2 as recorded" in capsys.readouterr().out


def test_file_that_cannot_be_scored_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "notes.jsonl", [{"words": 3}])
    assert f"{path}, line 1: is in no known format" in refuse(capsys, "evaluate", "rescore", str(path))


@pytest.mark.parametrize("order", [("nowhere", "--inline"), ("--inline", "nowhere")])
def test_evaluate_takes_what_is_no_command_of_it_for_a_model(
    capsys: pytest.CaptureFixture[str], order: tuple[str, str]
) -> None:
    assert "nowhere" in refuse(capsys, "evaluate", *order)


def test_error_of_a_real_process_has_no_traceback() -> None:
    code = "from mica_ray.cli import main; main(['train', '--dry-run', '--set', 'credit.alpha=1.2'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "mica: credit: alpha must be in [0, 1], got 1.2.\n"


def test_dry_run_writes_config_and_plan_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run("train", "--dry-run", "--set", "seed=5", "--json", "plan.json")
    written = json.loads(Path("plan.json").read_text())
    assert written["config"]["seed"] == 5
    assert "22 steps; each plays 64 dialogues (16 scenarios x 4)" in written["plan"]["work"]
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert "Plan. Everything that can be checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("learner.learning_rat=1", ["learner.learning_rat", "Did you mean learning_rate"]),
        ("policy=/no/such/folder", ["/no/such/folder", "no such folder"]),
        ("rollout.context_length=99999", ["got 99999", "rollout.context_length"]),
        ("engine.gpus_per_engine=1000", ["needs 1000 GPUs"]),
        ("scenarios_file=/no/such/file", ["/no/such/file"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    assignment: str,
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refuse(capsys, "train", "--set", assignment)
    assert [part for part in parts if part not in message] == []
    assert list(tmp_path.iterdir()) == []


def test_policy_without_chat_template_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_folder(tmp_path / "policy", tied=True)
    (folder / "chat_template.jinja").unlink()
    capsys.readouterr()  # transformers shows a bar while it writes the folder.
    message = refuse(capsys, "train", "--set", f"policy={folder}")
    assert "chat template (chat_template.jinja) is missing" in message


def test_recipe_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refuse(capsys, "train", str(tmp_path / "none.py"))
    (tmp_path / "empty.py").write_text("")
    assert "has no CONFIG" in refuse(capsys, "train", str(tmp_path / "empty.py"))
    (tmp_path / "wrong.py").write_text("CONFIG = 3\n")
    assert "must be a RunConfig, got int." in refuse(capsys, "train", str(tmp_path / "wrong.py"))
    assert "no run folder" in refuse(capsys, "train", "--resume", str(tmp_path))


def test_recipe_may_be_a_named_function(tmp_path: Path) -> None:
    recipe = tmp_path / "two.py"
    recipe.write_text(
        "from mica_ray.config import RunConfig\ndef small():\n    return RunConfig(name='small', seed=9)\n"
    )
    run("train", f"{recipe}:small", "--dry-run", "--json", str(tmp_path / "plan.json"))
    assert json.loads((tmp_path / "plan.json").read_text())["config"]["name"] == "small"


def test_stored_config_trains_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    stored = tmp_path / "config.json"
    stored.write_text('{"seed": 9, "out": "runs/the-first"}')
    run("train", str(stored), "--dry-run", "--json", str(tmp_path / "plan.json"))
    config = json.loads((tmp_path / "plan.json").read_text())["config"]
    assert (config["seed"], config["out"]) == (9, None)


@pytest.mark.slow
def test_inline_run_leaves_everything_it_names(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    assert {
        "config.json", "checkpoints", "dialogues.jsonl", "metrics.jsonl", "summary.json", "mlflow.db",
        "evaluation_before.jsonl", "evaluation_after.jsonl",
    } <= names  # fmt: skip
    table = json.loads((finished_run.parent / "table.json").read_text())
    assert {"before", "after", "difference", "seconds"} <= table.keys()
    assert (
        len((finished_run / "dialogues.jsonl").read_text().splitlines()) == 2
    )  # one scenario, two dialogues


@pytest.mark.slow
def test_finished_run_can_be_continued_to_more_steps(finished_run: Path) -> None:
    run("train", "--inline", "--resume", str(finished_run), "--set", "loop.num_steps=2")
    steps = [json.loads(line)["step"] for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    assert 1 in steps
    assert len((finished_run / "dialogues.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_checkpoint_of_another_model_is_refused(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = small_folder(tmp_path / "other", tied=False)
    message = refuse(capsys, "train", "--inline", "--resume", str(finished_run), "--set", f"policy={other}")
    assert "another model" in message


@pytest.mark.slow
def test_run_folder_is_evaluated_by_its_own_config(finished_run: Path, tmp_path: Path) -> None:
    run("evaluate", str(finished_run), "--inline", "--json", str(tmp_path / "table.json"))
    record = json.loads((tmp_path / "table.json").read_text())
    assert record["num_dialogues"] == 1


@pytest.mark.slow
def test_credit_of_a_run_is_checked_alike_twice(finished_run: Path, tmp_path: Path) -> None:
    tables = [tmp_path / "one.json", tmp_path / "two.json"]
    for table in tables:
        run(
            "credit", "check", str(finished_run), "--turns", "4", "--rerolls", "2",
            "--json", str(table), "--out", str(tmp_path / "check.png"),
        )  # fmt: skip
    record = json.loads(tables[0].read_text())
    assert {"MICA", "turn only", "group only", "GRPO"} <= record["estimators"].keys()
    assert len(record["sampled_turns"]) == 4
    assert tables[0].read_text() == tables[1].read_text()
    assert (tmp_path / "check.png").read_bytes().startswith(b"\x89PNG")


def test_credit_check_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a run folder. Name the folder that `mica train` printed." in refuse(
        capsys, "credit", "check", str(tmp_path)
    )


@pytest.mark.slow
def test_chat_answers_each_line_with_the_judged_state(finished_run: Path) -> None:
    code = f"from mica_ray.cli import main; main(['chat', {str(finished_run)!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], input="I lost my job.\nI feel alone.\n", capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("policy: ") == 2
    assert done.stdout.count("distance left") == 2


def test_doctor_prints_a_table_and_exits_with_2_if_a_run_could_not_work(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (
        "doctor",
        "--inline",
        "--set",
        "rollout.context_length=512",
        "--json",
        str(tmp_path / "found.json"),
    )
    run(*common, "--set", f"policy={policy}")
    assert "This run can start." in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert {"Python", "disk", "policy", "roles"} <= {finding["subject"] for finding in found}
    broken = Path(shutil.copytree(policy, tmp_path / "broken"))
    (broken / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(SystemExit) as caught:
        main([*common, "--set", f"policy={broken}"])
    assert caught.value.code == 2
    output = " ".join(capsys.readouterr().out.split())
    assert "1 of" in output
    assert "checks failed" in output
    short = ("--set", "rollout.context_length=512")
    message = refuse(capsys, "train", "--inline", "--dry-run", *short, "--set", f"policy={broken}")
    assert "is a Git LFS pointer" in message
