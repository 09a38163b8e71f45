"""Prometheus counters of a care check's findings, by kind and without the text."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from mica_ray.safety.check import KINDS, CareCheck, CareFinding, CareSteps, complete

NAME = "mica_care_findings"
"""Name of the counter; Prometheus appends `_total`."""


class CountedCare:
    """A care check whose findings are counted."""

    def __init__(self, check: CareCheck, registry: CollectorRegistry = REGISTRY) -> None:
        """Register the counter.

        Raises:
            ValueError: the registry already has a counter of this name.
        """
        self._check = check
        about = "Messages in which a sign of acute danger was found, by kind; no text is kept."
        self._findings = Counter(NAME, about, ["kind"], registry=registry)
        for kind in KINDS:
            # Created at 0, so that Prometheus' `increase()` counts the first finding.
            self._findings.labels(kind=kind)

    def check(self, text: str, locale: str) -> CareFinding | None:
        """Run the check and count its finding."""
        return complete(self.steps(text, locale))

    def steps(self, text: str, locale: str) -> CareSteps:
        """Do the same in steps."""
        finding = yield from self._check.steps(text, locale)
        if finding is not None:
            self._findings.labels(kind=finding.kind).inc()
        return finding

    def help_line(self, locale: str) -> str:
        """Return the help line of the check."""
        return self._check.help_line(locale)

    def without_help_line(self, text: str) -> str:
        """Return a reply without the help line of the check."""
        return self._check.without_help_line(text)
