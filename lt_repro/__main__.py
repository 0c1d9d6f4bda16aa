"""`python -m lt_repro` is `ltrepro`."""

from lt_repro.cli import main

main()
