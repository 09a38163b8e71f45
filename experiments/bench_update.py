"""What do log probabilities without whole logits save in an update, and how near is it to the machine's peak?

Command:   cluster/with-env python experiments/bench_update.py --policy FOLDER --json FILE [--trl-python PATH]
Time:      about 15 minutes on two cores with a 0.5B model
Expected:  time_ratio <= 0.7, memory_ratio <= 0.65, head_memory_ratio <= 0.15, head_growth <= 1.15,
           gradient_difference <= 1e-5, trl_time_ratio <= 1.0, trl_memory_ratio <= 1.1, peak_share >= 0.5

Each form runs in a process of its own, so that its peak memory is its own; the processes work alternately.
The form with whole logits exists only here. --trl-python is an interpreter that can import trl.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mica_ray.files import write_json
from mica_ray.head_logprobs import head_logprobs

ROWS, LENGTH, TRAINED = 2, 1024, 0.4
HEAD_TOKENS = 1024
TRL_CHUNK = 8192
"""Columns of a chunk in TRL 1.16."""
FLOPS_PER_WEIGHT = 8
"""Per weight and token: forward, recomputation, and twice the forward for the gradients."""
Call = Callable[[], object]


def token_rows(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random token ids and the mask of trained tokens, both [ROWS, LENGTH]: replies of 41 tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (ROWS, LENGTH), generator=generator)
    reply = round(LENGTH * TRAINED / 10)
    return ids, (torch.arange(LENGTH) % (LENGTH // 10) >= LENGTH // 10 - reply).repeat(ROWS, 1)


def whole_logprobs(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the log probabilities of trained tokens from the logits of every column."""
    scores = logits[:, :-1].float()
    chosen = scores.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(chosen - torch.logsumexp(scores, dim=-1), (1, 0)) * mask


def update_call(form: str, policy: Path, dtype: str) -> tuple[Call, Any]:
    """Return a forward and backward pass over the rows, and the model."""
    from transformers import AutoModelForCausalLM

    from mica_ray.training.policy_folder import load_policy

    if form == "chunked":
        model: Any = load_policy(policy, dtype="bfloat16", gradient_checkpointing=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.bfloat16)
        model.config.use_cache = False
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    model.to(getattr(torch, dtype))
    ids, mask = token_rows(model.config.vocab_size)
    advantages = torch.linspace(-1, 1, ids.numel()).reshape(ids.shape)

    def update() -> None:
        model.zero_grad(set_to_none=True)
        if form == "chunked":
            logprobs = model(ids, mask, 1.0)
        else:
            logprobs = whole_logprobs(model(input_ids=ids, use_cache=False).logits, ids, mask)
        (-(logprobs * advantages).sum() / mask.sum()).backward()

    return update, model


def head_call(form: str, shape: tuple[int, int], num_tokens: int) -> Call:
    """Return a forward and backward pass of the head."""
    vocabulary, width = shape
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, width, generator=generator).bfloat16().requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width, generator=generator).bfloat16()).requires_grad_()
    ids = torch.randint(vocabulary, (num_tokens,), generator=generator)
    upstream = torch.linspace(-1, 1, num_tokens)

    def logprobs() -> torch.Tensor:
        if form == "whole":
            scores = (hidden @ weight.T).float()
            return scores.gather(1, ids[:, None])[:, 0] - torch.logsumexp(scores, dim=1)
        if form == "trl":
            from trl.kernels import ChunkedLogProbFunction  # type: ignore[import-not-found]

            return ChunkedLogProbFunction.apply(hidden, weight, None, ids, 1.0, TRL_CHUNK, None, 1.0, ())[0]
        return head_logprobs(hidden, weight, ids)

    def head() -> None:
        hidden.grad = weight.grad = None
        (logprobs() * upstream).sum().backward()

    return head


def matmul_call(size: int = 2048) -> Call:
    """Return one bf16 product of square matrices: 2 size^3 floating-point operations."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(size, size, generator=generator).bfloat16() for _ in range(2))
    return lambda: first @ second


def peak_memory() -> int:
    """Return the largest resident memory of this process since `reset_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def reset_peak() -> None:
    """Start `peak_memory` from the present use: making the inputs takes more than they do."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_memory() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def worker_parts(name: str) -> tuple[str, str, int]:
    """Return kind, form and number of tokens of a worker: `head:trl:1024`, `update:whole` or `matmul`."""
    kind, form, tokens = (*name.split(":"), "", "")[:3]
    return kind, form, int(tokens or 0)


def work(options: argparse.Namespace) -> None:
    """Run the form of a child process once per line on stdin, and report seconds and memory."""
    torch.set_num_threads(options.threads)
    kind, form, tokens = worker_parts(options.worker)
    if kind == "update":
        call, _ = update_call(form, options.policy, "bfloat16")
    elif kind == "head":
        call = head_call(form, tuple(json.loads(options.shape)), tokens)
    else:
        call = matmul_call()
    reset_peak()
    base = resident_memory()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        print(
            json.dumps({"seconds": seconds, "peak": peak_memory(), "added": peak_memory() - base}), flush=True
        )


@dataclass
class Worker:
    """A child process that runs one form when asked."""

    name: str
    process: subprocess.Popen[str]
    runs: list[Mapping[str, float]]

    @classmethod
    def start(cls, name: str, options: argparse.Namespace, *, python: str, shape: str) -> Worker:
        """Start the process and wait until its tensors are in memory."""
        command = [python, __file__, "--worker", name, "--policy", str(options.policy), "--json", "-"]
        command += ["--threads", str(options.threads), "--shape", shape]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        worker = cls(name, process, [])
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{name} did not start. Its messages are above.")
        return worker

    def run(self) -> None:
        """Run the form once and keep what it reports."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit status {self.process.wait()}.")
        self.runs.append(json.loads(line))

    def stop(self) -> None:
        """End the process."""
        self.process.communicate()

    def seconds(self) -> float:
        """Return the median time of a run; the first one warms up."""
        return statistics.median(run["seconds"] for run in self.runs[1:])

    def last(self, name: str) -> float:
        """Return a value of the last run."""
        return self.runs[-1][name]


def interleaved(names: Mapping[str, str], options: argparse.Namespace, shape: str) -> dict[str, Worker]:
    """Run forms alternately, each in its own process; the values are the interpreters."""
    workers = {
        name: Worker.start(name, options, python=python, shape=shape) for name, python in names.items()
    }
    for number in range(options.repeats + 1):
        for worker in workers.values():
            worker.run()
            print(f"{worker.name} run {number}: {worker.last('seconds'):.2f} s", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stop()
    return workers


def gradient_difference(policy: Path) -> float:
    """Return ||chunked - whole|| / ||whole|| of the gradient of an update in fp32."""
    error = size = 0.0
    update, model = update_call("whole", policy, "float32")
    update()
    exact = {name: parameter.grad for name, parameter in model.named_parameters()}
    del update, model
    update, model = update_call("chunked", policy, "float32")
    update()
    for name, parameter in model.named_parameters():
        error += float((parameter.grad - exact[name]).double().square().sum())
        size += float(exact[name].double().square().sum())
    return math.sqrt(error / size)


def useful_operations(policy: Path) -> float:
    """Return the operations that an update of the rows needs with checkpointing."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(policy)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    shared = {id(embedding), id(head)}
    weights = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in shared)
    trained = int(token_rows(config.vocab_size)[1][:, 1:].sum())
    return FLOPS_PER_WEIGHT * (weights * ROWS * LENGTH + head.numel() * trained)


def measure(options: argparse.Namespace) -> dict[str, float | None]:
    """Measure everything and return the ratios by name."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(options.policy)
    shape = json.dumps([config.vocab_size, config.hidden_size])
    own = sys.executable
    update = interleaved({"update:whole": own, "update:chunked": own, "matmul": own}, options, shape)
    forms = {f"head:whole:{HEAD_TOKENS}": own, f"head:chunked:{HEAD_TOKENS}": own}
    forms[f"head:chunked:{4 * HEAD_TOKENS}"] = own
    if options.trl_python:
        forms[f"head:trl:{HEAD_TOKENS}"] = options.trl_python
    head = interleaved(forms, options, shape)
    whole, chunked = update["update:whole"], update["update:chunked"]
    small, trl = head[f"head:chunked:{HEAD_TOKENS}"], head.get(f"head:trl:{HEAD_TOKENS}")
    peak = 2 * 2048**3 / min(run["seconds"] for run in update["matmul"].runs)
    return {
        "time_ratio": chunked.seconds() / whole.seconds(),
        "memory_ratio": chunked.last("peak") / whole.last("peak"),
        "head_memory_ratio": small.last("added") / head[f"head:whole:{HEAD_TOKENS}"].last("added"),
        "head_growth": head[f"head:chunked:{4 * HEAD_TOKENS}"].last("added") / small.last("added"),
        "gradient_difference": gradient_difference(options.policy),
        "trl_time_ratio": None if trl is None else small.seconds() / trl.seconds(),
        "trl_memory_ratio": None if trl is None else small.last("added") / trl.last("added"),
        "peak_share": useful_operations(options.policy) / chunked.seconds() / peak,
        "update_seconds": chunked.seconds(),
        "update_gib": chunked.last("peak") / 2**30,
        "whole_seconds": whole.seconds(),
        "whole_gib": whole.last("peak") / 2**30,
        "matmul_gflops": peak / 1e9,
    }


def main() -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, required=True, help="model folder")
    parser.add_argument("--json", required=True, help="file for the ratios")
    parser.add_argument("--trl-python", default="", help="interpreter that can import trl")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--shape", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    torch.set_num_threads(options.threads)
    ratios = measure(options)
    write_json(Path(options.json), ratios)
    table = Table("measure", "value")
    for name, value in ratios.items():
        table.add_row(name, "skipped: --trl-python is not set" if value is None else f"{value:.4g}")
    Console().print(table)


if __name__ == "__main__":
    main()
