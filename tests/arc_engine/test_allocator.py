import subprocess
import sys

import pytest

pytestmark = pytest.mark.fast

ALLOCATING = """
import resource, sys, torch
from arc_engine.allocator import keep_freed_memory

def allocate():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(25_000) for _ in range(100)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1:]:
    assert keep_freed_memory()
print([allocate() for _ in range(4)][-1])
"""


def num_page_faults(*arguments):
    command = [sys.executable, "-c", ALLOCATING, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_what_was_freed_is_not_fetched_from_the_system_again():
    assert num_page_faults("kept") < 500 < num_page_faults()
