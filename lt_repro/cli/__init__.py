"""The command line: parse, call, print. One file per group of commands; nothing else imports typer or rich.

Nothing heavy is imported before a command runs, so that every `--help` answers at once.
"""

from lt_repro.cli import bench, compare, dataset, evaluate, exhibits, reproduce, show, status, tables, train  # noqa: F401  (each registers its commands)
from lt_repro.cli.app import arrange, main

arrange()

__all__ = ["main"]
