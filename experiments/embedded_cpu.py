"""Does MICA teach a small policy to support people over whole dialogues, in minutes on two CPU cores?

Command:   mica train experiments/embedded_cpu.py            (the same as `mica train`)
Time:      about two minutes to make the policy once, then minutes of training on 2 cores
Expected:  EPM-Q and passes of the test scenarios rise; the measured numbers are in README.md
Paper:     does not have this world: user, director and judge are scripted, and no claim about people follows
"""

from __future__ import annotations

from mica_ray.config import RunConfig

CONFIG = RunConfig()
