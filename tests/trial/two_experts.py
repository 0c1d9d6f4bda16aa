"""Two experts of their own, narrower width that see the same batch and are kept apart."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn import functional

from lt_repro.methods.base import Method
from lt_repro.nets.spec import NetSpec


@dataclass(frozen=True)
class TwoExperts(Method):
    """The first stage of RIDE in small: each expert's cross-entropy, less their divergence.

    Source: Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware Experts", ICLR 2021.
    Equation: L = mean_e CE(z_e, y) - diversity mean_e KL(p_e || p_mean)
    Deviations:
        1. Temperatures and routing. Paper: both. Code: none. Ours: neither.
    Reduces to: cross-entropy of one network where the experts are the same.

    Args:
        diversity: Of the divergence.
    """

    title: ClassVar[str] = "two experts"
    diversity: float = 0.1

    def net_spec(self, parent=None):
        return NetSpec(("first", "second"), "layer2", "cosine", widths=(16, 24, 48))

    def loss(self, net, batches, ctx):
        images, labels = batches["uniform"]
        logits = [z.float() for z in net(images)]
        mean = sum(z.softmax(1) for z in logits) / len(logits)
        divergence = sum(
            functional.kl_div(mean.log(), z.log_softmax(1), reduction="batchmean", log_target=True) for z in logits
        )
        fits = sum(functional.cross_entropy(z, labels) for z in logits)
        return (fits - self.diversity * divergence) / len(logits)
