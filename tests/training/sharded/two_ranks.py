"""Runs a function in two processes that form a torch process group."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from mica_ray.training.sharded.torch_ranks import TorchRanks

Work = Callable[[TorchRanks, Path], None]


def run_on_two_ranks(work: Work, folder: Path) -> None:
    """Run `work(ranks, folder)` on both ranks; an error in either is raised here."""
    processes.spawn(_run, args=(work, folder), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]


def _run(rank: int, work: Work, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(str(folder / "store"), 2)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    work(TorchRanks(rank, 2, torch.device("cpu")), folder)
    dist.destroy_process_group()
