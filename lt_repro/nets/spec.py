"""What network a method trains, as data: methods say it, networks are built from it."""

from typing import NamedTuple


class NetSpec(NamedTuple):
    """The branches of a network and what they have of their own.

    Args:
        branches: Their names.
        split_at: Where they part: before the last "block", or before the whole stage "layer3" or "layer2".
        head: "linear" or "cosine", one for each branch; or "joint", one linear head on all features side by side.
        bn: Whether BatchNorm below the split normalises each branch's batch on its own ("per_branch") or all of them
            together ("joint").
        widths: Channels of the three stages; above the split they are those of each branch.
    """

    branches: tuple[str, ...] = ("single",)
    split_at: str = "block"
    head: str = "linear"
    bn: str = "per_branch"
    widths: tuple[int, int, int] = (16, 32, 64)
