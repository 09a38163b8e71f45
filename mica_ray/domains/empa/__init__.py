"""EMPA: the world of the benchmark, its cards and their initial deficits."""

from mica_ray.domains.empa.empa import EMPA

__all__ = ["EMPA"]
