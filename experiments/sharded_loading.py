"""Measure the memory of each rank while a policy is loaded in shards (ZeRO stage 3), on CPUs.

    python experiments/sharded_loading.py --policy FOLDER --json FILE

Resident memory above what the process had before, mapped files included, in GiB:

    peak <= share of the weights + largest weight file

`--whole` measures the loading of all weights on every rank instead.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

_GIB = 2**30


def main() -> None:
    """Load the policy on all ranks, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description="Measure the memory of loading a policy in shards.")
    parser.add_argument("--policy", type=Path, required=True, help="model folder with safetensors files")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--whole", action="store_true", help="load all weights on every rank")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.policy, Path(folder), arguments.ranks, arguments.dtype, arguments.whole)
        processes.spawn(_rank, args=work, nprocs=arguments.ranks)  # pyright: ignore[reportPrivateImportUsage]
        rows = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(arguments.ranks)]
    for rank, row in enumerate(rows):
        print(f"rank {rank}: peak {row['peak_gib']:.2f} GiB, limit {row['limit_gib']:.2f} GiB", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def _rank(rank: int, policy: Path, folder: Path, world_size: int, dtype: str, is_whole: bool) -> None:
    from mica_ray.training.learner_group import RayLearnerConfig
    from mica_ray.training.policy_folder import load_policy
    from mica_ray.training.sharded.zero_init import load_sharded
    from mica_ray.training.sharded.zero_settings import deepspeed_settings, import_deepspeed
    from mica_ray.training.update import LearnerConfig

    # Its imports belong to the memory before.
    import_deepspeed()
    from transformers import AutoModelForCausalLM  # noqa: F401

    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(str(folder / "store"), world_size)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    config = LearnerConfig(dtype="bfloat16" if dtype == "bfloat16" else "float32")
    settings = deepspeed_settings(config, RayLearnerConfig(num_workers=world_size, zero_stage=3))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The high-water mark begins again here.
    if is_whole:
        model = load_policy(policy, dtype=config.dtype, gradient_checkpointing=False)
        elements = sum(parameter.numel() for parameter in model.parameters())
    else:
        model = load_sharded(policy, settings, dtype=config.dtype, gradient_checkpointing=False, rank=rank)
        assert model is not None, f"{policy} has other parameter names than its model"
        elements = sum(int(getattr(parameter, "ds_numel", 0)) for parameter in model.parameters())
    peak = _resident("VmHWM") - before
    size = elements * (2 if dtype == "bfloat16" else 4)
    largest = max(path.stat().st_size for path in policy.glob("*.safetensors"))
    row = {
        "peak_gib": peak / _GIB,
        "limit_gib": (size / world_size + largest) / _GIB,
        "weights_gib": size / _GIB,
        "largest_file_gib": largest / _GIB,
        "before_gib": before / _GIB,
    }
    (folder / f"{rank}.json").write_text(json.dumps(row))
    dist.destroy_process_group()


def _resident(name: str) -> int:
    """Return a line of the kernel's account of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
