"""Counts what a care check finds, by kind and without the text, for Prometheus."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from mica_ray.safety.check import KINDS, CareCheck, CareFinding

NAME = "mica_care_findings"
"""Prometheus shows a counter with `_total` after its name."""


class CountedCare:
    """A care check whose findings are counted."""

    def __init__(self, check: CareCheck, registry: CollectorRegistry = REGISTRY) -> None:
        """Take the check and where its counter is shown.

        Raises:
            ValueError: the place has such a counter already.
        """
        self._check = check
        about = "Messages in which a sign of acute danger was found, by kind; no text is kept."
        self._findings = Counter(NAME, about, ["kind"], registry=registry)
        for kind in KINDS:
            # A series that starts at 0 lets `increase()` see the first finding.
            self._findings.labels(kind=kind)

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Give what the check finds, and count it."""
        finding = self._check.check(text, locale)
        if finding is not None:
            self._findings.labels(kind=finding.kind).inc()
        return finding
