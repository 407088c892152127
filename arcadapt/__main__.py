"""`python -m arcadapt` is the command `arcadapt`."""

from arcadapt.cli import main

main()
