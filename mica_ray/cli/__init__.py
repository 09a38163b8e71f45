"""The command line `mica`. Each command imports what it needs when it runs, so that `mica --help` is fast."""

from mica_ray.cli.commands import main

__all__ = ["main"]
