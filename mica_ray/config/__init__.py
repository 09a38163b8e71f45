"""What a run follows from: the config value, its overrides, and the checks before a start."""

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import Recording, RoleConfig
from mica_ray.config.run_config import RunConfig

__all__ = ["ConfigError", "Recording", "RoleConfig", "RunConfig"]
