"""BatchNorm as one device or several compute it."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d; in training each batch may be normalised in parts, as `nn.DataParallel` does on several cards.

    Each part has its own mean and variance. The running statistics follow the first part alone: `nn.DataParallel` keeps
    those of its first card. In evaluation, and with one part, this is `nn.BatchNorm2d`. (Ghost batch normalisation,
    Hoffer et al. 2017, divides the batch too, but its running statistics follow all parts.)

    Attributes:
        parts: How many contiguous parts, of equal size where the batch can be so divided, >= 1.
    """

    parts = 1

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, C, H, W), normalised per channel."""
        if self.parts == 1 or not self.training:
            return super().forward(x)
        first, *rest = x.chunk(self.parts)
        normalised = [super().forward(first)]
        for part in rest:
            normalised.append(functional.batch_norm(part, None, None, self.weight, self.bias, True, eps=self.eps))
        return torch.cat(normalised)
