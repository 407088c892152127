"""The command line. `arcadapt --help` lists the commands; `arcadapt COMMAND --help` explains one."""

from arcadapt.cli.app import main

__all__ = ["main"]
