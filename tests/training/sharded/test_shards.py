"""Shards of optimizer state: any range of a parameter is read from the files of any number of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mica_ray.training.learner import LearnerError
from mica_ray.training.sharded.pieces import Piece
from mica_ray.training.sharded.shards import PARTS, Shard, open_shards, write_shards


def shard(name: str, start: int, values: list[float], step: int = 7) -> Shard:
    """Each part has the same values, times its number."""
    return Shard(name, start, step, {part: torch.tensor(values) * n for n, part in enumerate(PARTS, 1)})


def written(folder: Path) -> Path:
    """Write `a` = 0..5 and `b` = 10, 11 by two ranks: 0..3 and 4, 5, 10, 11."""
    write_shards(folder, [shard("a", 0, [0.0, 1.0, 2.0, 3.0])], rank=0, world_size=2)
    write_shards(folder, [shard("a", 4, [4.0, 5.0]), shard("b", 0, [10.0, 11.0])], rank=1, world_size=2)
    return folder


def test_range_is_read_across_the_files_of_two_ranks(tmp_path: Path) -> None:
    with open_shards(written(tmp_path)) as reader:
        assert reader.read("a", "weight", start=2, length=3).tolist() == [2, 3, 4]
        assert reader.read("a", "exp_avg", start=0, length=6).tolist() == [0, 2, 4, 6, 8, 10]
        assert reader.read("b", "exp_avg_sq", start=1, length=1).tolist() == [33]
        assert (reader.step("a"), reader.step("unknown")) == (7, 0)


def test_range_beyond_the_files_is_refused(tmp_path: Path) -> None:
    with (
        open_shards(written(tmp_path)) as reader,
        pytest.raises(LearnerError, match="has 1 of 2 values of a"),
    ):
        reader.read("a", "weight", start=5, length=2)


def test_missing_file_of_a_rank_is_refused(tmp_path: Path) -> None:
    (written(tmp_path) / "rank-00000-of-00002.safetensors").unlink()
    with pytest.raises(LearnerError, match="has 1 of 2 files of optimizer state"), open_shards(tmp_path):
        pass


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    (written(tmp_path) / "rank-00001-of-00002.safetensors").write_bytes(b"cut")
    problem = r"rank-00001-of-00002\.safetensors is no file of optimizer"
    with pytest.raises(LearnerError, match=problem), open_shards(tmp_path):
        pass


def test_piece_is_a_view_of_what_the_optimizer_steps(tmp_path: Path) -> None:
    # A flat tensor [x, a2, a3, a4, x]: the piece is elements 2 to 4 of `a`.
    flat = torch.nn.Parameter(torch.zeros(5))
    optimizer = torch.optim.AdamW([flat], lr=0.5, betas=(0.5, 0.5), weight_decay=0.0)
    piece = Piece("a", 2, 3, flat, 1)
    with open_shards(written(tmp_path)) as reader, torch.no_grad():
        piece.load(optimizer, reader)
    assert flat.tolist() == [0, 2, 3, 4, 0]
    assert optimizer.state[flat]["exp_avg"].tolist() == [0, 4, 6, 8, 0]
    found = piece.shard(optimizer)
    assert (found.name, found.start, found.step) == ("a", 2, 7)
    assert found.parts["exp_avg_sq"].tolist() == [6, 9, 12]
    flat.grad = torch.zeros(5)
    optimizer.step()
    assert piece.shard(optimizer).step == 8


def test_piece_before_the_first_step_has_no_moments() -> None:
    flat = torch.nn.Parameter(torch.ones(2, 2))
    found = Piece("a", 0, 4, flat, 0).shard(torch.optim.AdamW([flat]))
    assert found.step == 0
    assert [found.parts[part].tolist() for part in PARTS] == [[1] * 4, [0] * 4, [0] * 4]
