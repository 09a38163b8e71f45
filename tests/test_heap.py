"""Memory that was freed inside the heap goes back to the system."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
import torch
from mica_ray.heap import release_freed_memory

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

# 200 blocks of 1 MiB with 64 KiB between them, which keep the heap from shrinking at its end.
torch.empty(2**22).fill_(1)  # Raises glibc's threshold for blocks outside of the heap above 1 MiB.
blocks = [(torch.ones(2**18), torch.ones(2**14)) for _ in range(200)]
kept = [small for _, small in blocks]
del blocks
before = resident()
assert release_freed_memory()
print((before - resident()) // 2**20)
"""


def test_freed_blocks_inside_the_heap_are_returned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    # 200 MiB were freed; a few may have been returned before, or share a page with what is kept.
    assert int(done.stdout) >= 150
