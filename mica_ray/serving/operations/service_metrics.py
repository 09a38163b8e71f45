"""Prometheus metrics of the service. Their labels are names of models, codes and kinds, never text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from mica_ray.serving.http.backend import Usage
from mica_ray.serving.operations.request_record import RequestRecord, current_record

_FIRST_PIECE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class ServiceMetrics:
    """Counts requests, tokens and failures.

    Args:
        registry: of Prometheus; has one `ServiceMetrics` at most.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter("mica_requests", "Responses, by status.", ["status"], registry=registry)
        self.rejections = Counter(
            "mica_rejections", "Requests that got an error, by its code.", ["reason"], registry=registry
        )
        self.first_piece = Histogram(
            "mica_first_token_seconds",
            "From the call of the model to the first piece of its reply.",
            ["model"],
            buckets=_FIRST_PIECE_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "mica_tokens", "Tokens of prompts and replies.", ["model", "direction"], registry=registry
        )
        self.waiting = Gauge(
            "mica_requests_waiting", "Requests that wait for their first piece.", registry=registry
        )
        self.in_flight = Gauge("mica_requests_in_flight", "Requests at the models.", registry=registry)
        self.judge_failures = Counter(
            "mica_judge_failures", "Replies in sessions without a judgement.", ["reason"], registry=registry
        )
        self.care_without_reply = Counter(
            "mica_care_without_reply",
            "Answers that have only the help line, because the model failed, by its error's code.",
            ["reason"],
            registry=registry,
        )
        self.care_unchecked = Counter(
            "mica_care_unchecked", "Messages whose care check did not end in time.", registry=registry
        )

    def count_request(self, record: RequestRecord, status: int) -> None:
        """Count a request that has ended."""
        self.requests.labels(str(status)).inc()
        if record.error is not None and status >= 400:
            self.rejections.labels(record.error).inc()
        for direction, tokens in (("in", record.prompt_tokens), ("out", record.completion_tokens)):
            if tokens:
                self.tokens.labels(record.model, direction).inc(tokens)

    @contextmanager
    def at_model(self, model: str) -> Iterator[ModelCall]:
        """Count a request as in flight until the block ends, and as waiting until its first piece."""
        call = ModelCall(self, model)
        self.in_flight.inc()
        self.waiting.inc()
        try:
            yield call
        finally:
            call.end()
            self.in_flight.dec()


class ModelCall:
    """One call of a model: when its first piece arrived, and its tokens."""

    def __init__(self, metrics: ServiceMetrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._begin = time.monotonic()
        self._num_pieces = 0
        self._is_counted = False

    def count(self, usage: Usage | None) -> None:
        """Count a piece, and the tokens of the whole reply if it is the last one."""
        record = current_record()
        self._num_pieces += 1
        if self._num_pieces == 1:
            seconds = time.monotonic() - self._begin
            self._metrics.waiting.dec()
            self._metrics.first_piece.labels(self._model).observe(seconds)
            record.first_piece_seconds = record.first_piece_seconds or seconds
        if usage is not None:
            self._is_counted = True
            # The choices of one request share their prompt.
            record.prompt_tokens = max(record.prompt_tokens, usage.prompt_tokens)
            record.completion_tokens += usage.completion_tokens

    def end(self) -> None:
        """Count a call that was broken off: each of its pieces had a token at least."""
        if not self._num_pieces:
            self._metrics.waiting.dec()
        if not self._is_counted:
            current_record().completion_tokens += self._num_pieces


@cache
def service_metrics(registry: CollectorRegistry = REGISTRY) -> ServiceMetrics:
    """Return the metrics of a registry, created at the first call."""
    return ServiceMetrics(registry)
