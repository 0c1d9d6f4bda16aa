"""Cross-entropy, the baseline of every table; with mixup its usual control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor

from lt_repro.fields import ABOVE_0
from lt_repro.losses import soft_cross_entropy
from lt_repro.methods.base import Batch, Method, Net, RandomInput, StepContext
from lt_repro.mixing import mixup_inputs


@dataclass(frozen=True)
class CrossEntropy(Method):
    """The mean cross-entropy of the softmax on uniform draws, with mixup or without.

    Source:
        Without mixup the textbook baseline; H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical
        Risk Minimization", ICLR 2018, equations (1) and (2).
    Equation:
        L = mean_b -sum_k y_bk log softmax(z_b)_k
        mix = "mixup": x = lam x_i + (1 - lam) x_j, likewise y; j a permutation of the batch, lam ~ Beta(alpha, alpha)
    Reduces to:
        - mixup at lam = 1: without mixup.
        - DBN-Mix with one branch, the same mixing and no temperatures, bit for bit.

    Args:
        mix: "none", or "mixup" within the batch.
        alpha: Parameter of the Beta distribution that mixup draws lambda from, > 0; 1 draws lam uniformly.
    """

    title = "Cross-entropy"
    bounds = {"alpha": (ABOVE_0, 1e6)}

    mix: Literal["none", "mixup"] = "none"
    alpha: float = 1.0

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls("mixup")

    @property
    def random_inputs(self) -> Mapping[str, RandomInput]:
        return mixup_inputs(self.alpha) if self.mix == "mixup" else {}

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, targets = ctx.mixed(batches["uniform"], self.mix)
        (logits,) = net(images)
        return soft_cross_entropy(logits, targets)

    def inactive_fields(self) -> frozenset[str]:
        return frozenset() if self.mix == "mixup" else frozenset({"alpha"})
