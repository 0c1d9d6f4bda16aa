"""The network that a method trains, as data: methods define it, networks are built from it."""

from typing import NamedTuple

from lt_repro.errors import RequestError


class NetSpec(NamedTuple):
    """The branches of a network, where they split, and their heads.

    Args:
        branches: The names of the branches.
        split_at: Where the branches split: before the last "block", or before the stage "layer3" or "layer2".
        head: "linear", "cosine" or "sigmoid" (linear, its bias started so that every sigmoid is 1 / K), one per branch;
            or "joint", one linear head on the concatenated features.
        bn: Whether BatchNorm below the split normalises each branch's batch alone ("per_branch") or all batches
            together ("joint").
        widths: Channels of the three stages; above the split, of each branch.
        scale: Factor of a cosine head's cosines.
    """

    branches: tuple[str, ...] = ("single",)
    split_at: str = "block"
    head: str = "linear"
    bn: str = "per_branch"
    widths: tuple[int, int, int] = (16, 32, 64)
    scale: float = 30.0


def require_linear(spec: NetSpec, what: str) -> NetSpec:
    """Returns the spec if every branch has a linear head, so that there are class vectors and biases to change.

    Args:
        spec: The network of a parent.
        what: What needs it, for the error.

    Raises:
        RequestError: The heads are cosine or joint.
    """
    if spec.head not in ("linear", "sigmoid"):
        raise RequestError(
            f"{what} on a parent with head={spec.head}",
            "allowed: a parent with a linear head for each branch",
            "use a parent of another method, or one trained with head=linear",
        )
    return spec
