"""Role model engines that all trials of a sweep share. They run in the sweep's process.

tuning/resources.py decides which engines are shared; trials find them through rollout/shared_pool.py.
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
    """The shared engines of a sweep. Starting and ending engines blocks until they are ready or gone."""

    def __init__(self) -> None:
        """Start without engines."""
        self._pools: dict[str, SharedPool] = {}

    def serve(self, wanted: Mapping[str, tuple[RoleConfig, str]]) -> None:
        """Start the engines that are not running yet.

        Args:
            wanted: role config and model, by the name of the engines.

        Raises:
            ConfigError: a model does not exist.
            EngineError: an engine does not start.
        """
        for name, (roles, model) in wanted.items():
            if name not in self._pools:
                self._pools[name] = asyncio.run(share_role_model(roles, model))

    def close(self) -> None:
        """End all engines."""
        for pool in self._pools.values():
            asyncio.run(pool.end())
        self._pools.clear()
