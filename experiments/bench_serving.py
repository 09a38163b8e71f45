"""What does the service cost beside the engine alone, and does it survive a kill and a redeployment?

Command:   python experiments/bench_serving.py --replicas 2 --json serving.json
Time:      about 6 minutes on two cores
Expected:  only statuses 200 and 429. One copy, which runs in the web application's process: 0.84 to 0.92
           of the engine's tokens per second; separate replicas: two thirds to four fifths. SIGKILL of a copy
           breaks connections, of a replica also leads to 503. The redeployment fails no request.

64 clients ask for 60 s, half of them streaming. Service and engine alone get the same prompts alternately.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from mica_ray.config import RunConfig
from mica_ray.files import write_json
from mica_ray.launch import run
from mica_ray.launch.cluster import join_ray
from mica_ray.serving.http.backend import ChatRequest
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.load import REPLY_TOKENS, Load, ask_service
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.proxy import choose_proxy
from mica_ray.serving.service_spec import Replicas, ServiceSpec
from mica_ray.types import Sampling

PORT = 8765
_LONE_SECONDS = 90.0
"""Seconds of load around the death of the only copy: nothing answers until it has started again."""
_ROUNDS = 3
"""Engine and service alternate this many times, so that a machine that slows down slows both."""


class LoneEngine:
    """The same replica in a plain Ray actor, asked from inside: no HTTP and no Ray Serve."""

    def __init__(self, model: ModelSpec) -> None:
        self._replica = ModelReplica(model)
        self._prompt = self._replica.prompt()

    async def ask(self, prompts: Sequence[str], *, clients: int, seconds: float) -> Load:
        """Ask the engine directly with as many clients."""
        load, begin = Load(), time.monotonic()

        async def client(index: int) -> None:
            number = index
            while time.monotonic() < begin + seconds:
                asked = time.monotonic()
                request = ChatRequest(
                    "support",
                    ({"role": "user", "content": prompts[number % len(prompts)]},),
                    Sampling(max_tokens=REPLY_TOKENS, seed=number),
                    is_streamed=bool(index % 2),
                )
                async with aclosing(self._replica.stream(self._prompt.render(request))) as pieces:
                    async for piece in pieces:
                        load.tokens += 0 if piece.usage is None else piece.usage.completion_tokens
                load.latencies.append(time.monotonic() - asked)
                number += clients

        await asyncio.gather(*(client(index) for index in range(clients)))
        load.seconds = time.monotonic() - begin
        return load


def during(load: Callable[[], Load], action: Callable[[], None], *, after: float) -> tuple[Load, float]:
    """Run an action during a load; return what the clients saw, and when the action began."""
    found: list[Load] = []
    clients = threading.Thread(target=lambda: found.append(load()))
    clients.start()
    time.sleep(after)
    when = time.monotonic()
    action()
    clients.join()
    return found[0], when


def kill_replica() -> None:
    """Kill one replica of the model like a crash; with the copy in the web application, kill that process."""
    processes = psutil.Process().children(recursive=True)
    names = ("ServeReplica:mica:model-0", "ServeReplica:mica:ingress")
    replicas = [p for name in names for p in processes if name in " ".join(p.cmdline())]
    os.kill(replicas[0].pid, signal.SIGKILL)


def main() -> None:
    """Run all parts and print the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="embedded")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--replicas", type=int, default=1, help="copies of the model in the service")
    parser.add_argument("--apart", action="store_true", help="put even a single copy into a separate replica")
    parser.add_argument(
        "--without-faults", action="store_true", help="skip the killed replica and the redeployment"
    )
    parser.add_argument("--sampler", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    config = RunConfig(policy=arguments.policy)
    checked = run.check(config, inline=True)
    domain = checked.domain
    model = ModelSpec(
        "support",
        str(run.policy_folder(checked)),
        replace(config.engine, backend="in_process") if arguments.apart else config.engine,
        arguments.sampler,
        system_prompt=domain.policy_prompt,
    )
    spec = ServiceSpec(
        (model,),
        ServeSettings(max_in_flight=4 * arguments.clients),
        Replicas(arguments.replicas, arguments.replicas),
    )
    choose_proxy()
    leave = join_ray(cpus=spec.cpus + 2)
    try:
        record = _measure(spec, [s.opening for s in domain.scenarios if s.opening], arguments)
    finally:
        leave()
    print(json.dumps(record, indent=2))
    if arguments.json is not None:
        write_json(arguments.json, record)


def _measure(spec: ServiceSpec, prompts: Sequence[str], arguments: argparse.Namespace) -> dict[str, object]:
    import ray

    from mica_ray.serving.ray_app import end_service, serve_application

    def load(seconds: float) -> Load:
        return asyncio.run(ask_service(prompts, port=PORT, clients=arguments.clients, seconds=seconds))

    begin = time.monotonic()
    serve_application(spec, host="127.0.0.1", port=PORT)
    up_seconds = time.monotonic() - begin
    begin = time.monotonic()
    first = asyncio.run(ask_service(prompts, port=PORT, clients=1, seconds=0.01))
    first_reply_seconds = time.monotonic() - begin
    model = (spec.local_engine or spec.engines[0]).base
    options = {"num_cpus": 1, "runtime_env": {"env_vars": dict(model.environment)}}
    engine: Any = ray.remote(LoneEngine).options(**options).remote(model)  # pyright: ignore
    alone, served = Load(), Load()
    each = arguments.seconds / _ROUNDS
    for _ in range(_ROUNDS):
        alone.add(ray.get(engine.ask.remote(prompts, clients=arguments.clients, seconds=each)))
        served.add(load(each))
    ray.kill(engine)
    record = {
        "clients": arguments.clients,
        "replicas": arguments.replicas,
        "up_seconds": up_seconds,
        "first_reply_seconds": first_reply_seconds if first.latencies else math.nan,
        "engine_alone": alone.record(),
        "service": served.record(),
        "tokens_per_second_of_the_engine_alone": (served.tokens / served.seconds)
        / (alone.tokens / alone.seconds),
    }
    if not arguments.without_faults:
        record |= _with_faults(spec, load, each, _LONE_SECONDS if spec.local_engine else each)
    end_service()
    return record


def _with_faults(
    spec: ServiceSpec, load: Callable[[float], Load], each: float, around_death: float
) -> dict[str, object]:
    """Kill a replica, then deploy a new version, both under load."""
    from mica_ray.serving.ray_app import serve_application

    killed, killed_at = during(lambda: load(around_death), kill_replica, after=each / 4)
    later = [moment for moment in killed.answered if moment > killed_at + 1]
    newer = replace(spec, models=(replace(spec.models[0], created=int(time.time())),))
    redeployed, _ = during(
        lambda: load(2 * each), lambda: serve_application(newer, host="127.0.0.1", port=PORT), after=each / 4
    )
    return {
        "killed": killed.record() | {"answers_again_after_seconds": min(later, default=math.nan) - killed_at},
        "redeployed": redeployed.record(),
    }


if __name__ == "__main__":
    main()
