"""Commands that several processes share."""

import subprocess
import sys
from pathlib import Path

# `accelerate launch` starts several processes for GPUs, and on processors only by MPI.
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "arcadapt")


def in_two_processes(command: str, *, config: Path, out: Path) -> None:
    """Runs the training command to its end."""
    words = [sys.executable, *LAUNCH, command, "--config", str(config), "--out", str(out)]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
