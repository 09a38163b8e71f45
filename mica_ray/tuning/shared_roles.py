"""Engines of role models that all trials of a sweep ask, started once in the sweep's process.

Which they are: resources.py. How trials find them: rollout/shared_pool.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mica_ray.config.role_config import RoleConfig
from mica_ray.launch.start_engines import share_role_model

if TYPE_CHECKING:
    from mica_ray.rollout.shared_pool import SharedPool


class SharedRoles:
    """The shared engines of a sweep. Consumes what trials want served; waits until it is ready, or ended."""

    def __init__(self) -> None:
        """Hold no engine yet."""
        self._pools: dict[str, SharedPool] = {}

    def serve(self, wanted: Mapping[str, tuple[RoleConfig, str]]) -> None:
        """Start what does not run yet.

        Args:
            wanted: roles and model by the engines' name.

        Raises:
            ConfigError: there is no such model.
            EngineError: an engine does not start.
        """
        for name, (roles, model) in wanted.items():
            if name not in self._pools:
                self._pools[name] = asyncio.run(share_role_model(roles, model))

    def close(self) -> None:
        """End all of them."""
        for pool in self._pools.values():
            asyncio.run(pool.end())
        self._pools.clear()
