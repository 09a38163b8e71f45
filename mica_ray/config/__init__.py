"""What a run follows from: the config value, its overrides, and the checks before a start."""

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RoleConfig, RunConfig

__all__ = ["ConfigError", "RoleConfig", "RunConfig"]
