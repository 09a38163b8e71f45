"""Does MICA teach a small policy to support people over whole dialogues, in minutes on two CPU cores?

Command:   mica train experiments/embedded_cpu.py            (the same as `mica train`)
Time:      about two minutes to create the policy once, then some minutes of training on two cores
Expected:  EPM-Q and passes on the test scenarios rise; measured numbers are in experiments/README.md
Paper:     does not have this world. User, director and judge are scripted, so no claim about people follows.
"""

from __future__ import annotations

from mica_ray.config import RunConfig

CONFIG = RunConfig()
