"""Names of Python objects in text, `module:NAME` or `file.py:NAME`, and back; for configs and `--set`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mica_ray.error_lines import first_line


class ConfigError(ValueError):
    """Something the user asked for cannot be done. The message is one line: the thing and the remedy."""


def nearest(name: str, valid: Sequence[str]) -> str:
    """Give the valid name most like a mistyped one, or all when none is like it, for an error message."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    return f"did you mean {close[0]}" if close else f"valid are {', '.join(sorted(valid))}"


def load_module_file(path: Path) -> ModuleType:
    """Run a Python file, once per process, as a module of its own.

    Raises:
        ConfigError: there is no such file, or running it failed.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    location = str(path.resolve())
    name = f"mica_recipe_{path.stem}_{hashlib.blake2b(location.encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, location)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file; a recipe ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Dataclasses look their own module up while they are being made.
    try:
        spec.loader.exec_module(module)
    except ConfigError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path}: {type(error).__name__}: {first_line(error)}") from error
    return module


def resolve(reference: str) -> object:
    """Give the object that a reference names.

    Raises:
        ConfigError: the form is wrong, or there is no such module, file or name.
    """
    place, separator, name = reference.rpartition(":")
    if not separator or not place or not name:
        raise ConfigError(f"{reference!r} names no object; write module:NAME or file.py:NAME")
    if place.endswith(".py"):
        module = load_module_file(Path(place))
    else:
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise ConfigError(f"{reference}: cannot import {place}: {first_line(error)}") from error
    if not hasattr(module, name):
        public = [item for item in vars(module) if not item.startswith("_")]
        raise ConfigError(f"{reference}: {place} has no {name}; {nearest(name, public)}")
    return getattr(module, name)


def reference_of(item: object) -> str:
    """Give the reference under which `resolve` finds a class or function again.

    Raises:
        ConfigError: it is not at the top level of a module or file.
    """
    name = str(getattr(item, "__qualname__", ""))
    module = sys.modules.get(str(getattr(item, "__module__", "")))
    if module is None or getattr(module, name, None) is not item:
        raise ConfigError(f"{name or item!r} must stand at the top level of a module to be named in a config")
    is_file = module.__name__ == "__main__" or module.__name__.startswith("mica_recipe_")
    return f"{inspect.getsourcefile(module) if is_file else module.__name__}:{name}"


def find_reference(value: object) -> str:
    """Give the reference of a value that some imported module holds under a public name, such as a domain.

    Raises:
        ConfigError: no module holds it.
    """
    for module in list(sys.modules.values()):
        for name, held in list(getattr(module, "__dict__", {}).items()):
            if held is value and not name.startswith("_"):
                place = module.__name__
                if place == "__main__" or place.startswith("mica_recipe_"):
                    place = str(inspect.getsourcefile(module))
                return f"{place}:{name}"
    raise ConfigError(f"a {type(value).__name__} in a config must have a name at the top level of a module")
