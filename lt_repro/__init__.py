"""Reproduce long-tailed recognition papers, table by table, with the published number beside ours."""

__version__ = "0.1.0"
