"""Processor seconds of this process and its children, which are not other people's work."""

import os
import subprocess
import sys

from rayfs.engine.machine import process_cpu_s, tree_cpu_s

BUSY_S = 0.4
BURN = f"import time\nwhile time.process_time() < {BUSY_S}: pass"


def test_child_that_ended_counts_as_part_of_the_tree():
    tree_s, own_s = tree_cpu_s(os.getpid()), process_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert tree_cpu_s(os.getpid()) - tree_s > 0.9 * BUSY_S
    assert process_cpu_s(os.getpid()) - own_s < 0.5 * BUSY_S
