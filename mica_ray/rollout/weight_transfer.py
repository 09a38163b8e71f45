"""The sending side of vLLM's weight-transfer API, inside rank 0 of the learner.

NCCL connects GPUs, gloo connects CPUs (vllm_transfer.py). vLLM's workers receive when vllm_engine.py is idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError

from mica_ray.error_lines import last_line
from mica_ray.ports import free_port
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.weights import TransferSession, TransferStep, WeightBucket

if TYPE_CHECKING:
    from vllm.distributed.weight_transfer.base import TrainerWeightTransferEngine


class WeightBroadcaster:
    """Sends weights from rank 0. Keeps its process group as long as the engines stay the same."""

    def __init__(self) -> None:
        """Start without a process group."""
        self._members: tuple[object, ...] = ()
        self._client: _EngineClient
        self._engine: TrainerWeightTransferEngine | None = None
        self._buckets: Sequence[WeightBucket] = ()

    def send(self, buckets: Sequence[WeightBucket], session: TransferSession) -> None:
        """Send buckets to the engines of a session and wait until they have loaded them.

        Raises:
            EngineError: an engine refused them or died, or the deadline passed. The process group is dropped.
        """
        self._buckets = buckets
        # In its own thread: a collective whose peer died cannot be interrupted, only abandoned.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weight transfer")
        members = tuple(engine._actor_id for engine in session.engines)
        if members != self._members:
            self._forget()
            self._members, self._client = members, _EngineClient(session)
        sending = thread.submit(self._send, session)
        thread.shutdown(wait=False)
        try:
            # A refusal is raised at once; the broadcast itself would keep waiting for that engine.
            wait([sending, self._client.refusal], session.deadline_seconds, FIRST_COMPLETED)
            (self._client.refusal if self._client.refusal.done() else sending).result(timeout=0)
        except TimeoutError as error:
            self._forget()
            raise EngineError(
                f"The engines did not receive the weights over {session.route.kind} within "
                f"{session.deadline_seconds:g} s. Check the engines' logs, or set "
                "engine.weight_transfer=bucket."
            ) from error
        except RayError as error:
            self._forget()
            raise EngineError(
                f"An engine did not load the weights sent over {session.route.kind} ({last_line(error)}). "
                "Check its log, or set engine.weight_transfer=bucket."
            ) from error

    def _send(self, session: TransferSession) -> None:
        if self._engine is None:
            self._engine = self._join(session)
        self._engine.send_weights()

    def _join(self, session: TransferSession) -> TrainerWeightTransferEngine:
        """Open the process group: this process is rank 0, then every worker of every engine."""
        import torch
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        from mica_ray.rollout.vllm_transfer import BucketSource, GlooTrainerInitInfo

        is_on_gpu = session.route.kind == "nccl"
        kind = NCCLTrainerInitInfo if is_on_gpu else GlooTrainerInitInfo
        return WeightTransferTrainerFactory.trainer_init(
            kind(
                master_address=ray.util.get_node_ip_address(),
                master_port=free_port(),
                world_size=1 + len(session.engines) * session.route.workers_per_engine,
                rank=0,
            ),
            client=self._client,
            source=BucketSource(self._newest, torch.device("cuda" if is_on_gpu else "cpu")),
        )

    def _newest(self) -> Sequence[WeightBucket]:
        return self._buckets

    def _forget(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()
        self._engine, self._members = None, ()


class _EngineClient:
    """The client that vLLM calls: it forwards each call to all engines and waits for all."""

    def __init__(self, session: TransferSession) -> None:
        self._session = session
        self.refusal: Future[None] = Future()
        """Set to the error of the first call that fails; otherwise never done."""

    def init_weight_transfer_engine(self, init_info: Mapping[str, object]) -> None:
        """Join all engines to the group; the ranks of their workers are consecutive."""
        workers, first = self._session.route.workers_per_engine, init_info["rank_offset"]
        assert isinstance(first, int)
        self._call(
            "init",
            [
                {**init_info, "rank_offset": first + index * workers}
                for index in range(len(self._session.engines))
            ],
        )

    def start_weight_update(self) -> None:
        self._call("start")

    def update_weights(self, update_info: Mapping[str, object] | list[dict[str, object]]) -> None:
        # A list is for data-parallel replicas; our engines are separate actors.
        assert isinstance(update_info, Mapping)
        self._call("update", [dict(update_info)] * len(self._session.engines))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("finish")

    def _call(self, step: TransferStep, payloads: Sequence[Mapping[str, object] | None] = ()) -> None:
        engines = self._session.engines
        references = [
            engine.transfer.remote(step, payload)
            for engine, payload in zip(engines, payloads or [None] * len(engines), strict=True)
        ]
        try:
            ray.get(references, timeout=self._session.deadline_seconds)
        except RayError as error:
            if not self.refusal.done():
                self.refusal.set_exception(error)
            raise
