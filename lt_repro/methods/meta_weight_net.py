"""Meta-Weight-Net: a small network weighs each image by its loss, and learns to on balanced images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from lt_repro.data.samplers import ClassBalanced, Uniform
from lt_repro.losses import cross_entropies
from lt_repro.meta import Outputs, as_function, meta_gradients
from lt_repro.methods.base import Batch, Departure, MetaOptimizer, Method, Net, Preset, Sampled, StepContext
from lt_repro.nets.spec import NetSpec

META_SET_DEPARTURE = Departure(
    "Meta set",
    paper="10 images of each class, held out of the training set",
    code="the same",
    ours="by default class-balanced draws of the training set, as the other methods of this project have no further "
    'images; `meta` = "held_out" and the preset "published" hold 10 a class out, drawn by the split seed',
)
VIRTUAL_RATE_DEPARTURE = Departure(
    "Rate of the virtual step",
    paper="the step's",
    code="counts epochs from another start, so that it drops an epoch after the step's",
    ours="the step's",
)


def meta_samplers(meta: Literal["resampled", "held_out"], active: bool) -> tuple[Sampled, ...]:
    """Returns the uniform batch and, for a meta step, the batch of 100 balanced images that it tests itself on.

    Args:
        meta: "resampled" for class-balanced draws of the training set; "held_out" for the images that the recipe's
            `meta_images` keeps outside it.
        active: Whether there is a meta step.
    """
    uniform = Sampled("uniform", Uniform())
    if not active:
        return (uniform,)
    if meta == "resampled":
        return uniform, Sampled("meta", ClassBalanced(), batch=100)
    return uniform, Sampled("meta", Uniform(), source="meta", batch=100)


class Weighting(nn.Module):
    """V: the weight of an image, in (0, 1), from its loss; an MLP with one hidden layer of 100, in fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())

    def forward(self, losses: Tensor) -> Tensor:
        """Returns the weights (B,) of losses (B,)."""
        with torch.autocast(losses.device.type, enabled=False):
            return cast(Tensor, self.layers(losses[:, None])).squeeze(1)


@dataclass(frozen=True)
class MetaWeightNet(Method):
    """An MLP weighs images by their loss; it is trained so that a step under its weights helps on a balanced batch.

    Source:
        J. Shu et al., "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting", NeurIPS 2019, and its code
        for class imbalance (Meta-weight-net_class-imbalance, commit 20c3276), not that for noisy labels.
    Equation:
        w_i = V(l_i; Theta) / sum_j V(l_j; Theta), V an MLP 1-100-1, ReLU, then a sigmoid; l_i the cross-entropy
        theta'(Theta) = theta - lr grad_theta sum_i w_i l_i; w_i depends on theta too
        Theta moves along -grad_Theta of the mean cross-entropy of a meta batch of 100 at theta'(Theta)
        L = sum_i w_i l_i, with the new Theta and w without gradient
    Reduces to:
        - a constant V: cross-entropy.

    Args:
        meta: Where the meta batches are from: class-balanced draws of the training set ("resampled"), or `meta_images`
            of each class outside it ("held_out").
        learned: Whether V is trained; false leaves V as it starts.
    """

    title = "Meta-Weight-Net"
    presets = {
        "published": Preset(
            "the code of Shu et al. 2019 for class imbalance; no setting here: CIFAR-10's statistics for both "
            "sets (for CIFAR-10 within 0.0002 of normalise=own), an unseeded subset, the best epoch on test",
            {"epochs": 100, "batch": 100, "weight_decay": 5e-4, "nesterov": True, "warmup": 0.0}
            | {"milestones": (79 / 100, 89 / 100), "lr_decay": 0.1, "crop_pad": "reflect"}
            | {"meta": "held_out", "meta_images": 10},
        )
    }

    departures = (
        META_SET_DEPARTURE._replace(code="the same, another draw in each run"),
        Departure(
            "Divisor of the weights",
            paper="a weighted sum of the losses",
            code="their sum over the batch; that for noisy labels divides by the batch size",
            ours="their sum",
        ),
        Departure(
            "Input of V in the virtual step",
            paper="a function of theta",
            code="the same; that for noisy labels detaches it",
            ours="as the paper",
        ),
        Departure(
            "Optimiser of V",
            paper="SGD at rate 1e-5",
            code="that, with Nesterov momentum 0.9 and weight decay 5e-4; that for noisy labels has Adam at 1e-3",
            ours="the code's. V moves so little that its first shape, which is random, may decide: V at the losses "
            "0.05, 1 and 5 is logged for each epoch",
        ),
        VIRTUAL_RATE_DEPARTURE,
        Departure(
            "Gradient of the meta loss",
            paper="exact",
            code="exact, by differentiating twice through a copy of the network",
            ours="exact, by one pass in forward mode, in fp32",
        ),
    )

    meta: Literal["resampled", "held_out"] = "resampled"
    learned: bool = True

    @classmethod
    def examples(cls) -> Sequence[Self]:
        return cls(), cls("held_out"), cls(learned=False)

    @property
    def defaults(self) -> Mapping[str, Any]:
        return {"meta_images": 10} if self.learned and self.meta == "held_out" else {}

    def aux_modules(self, class_counts: Tensor, spec: NetSpec) -> Mapping[str, nn.Module]:
        return {"weighting": Weighting()}

    def samplers(self, progress: float) -> tuple[Sampled, ...]:
        return meta_samplers(self.meta, self.learned)

    @property
    def meta_optimizer(self) -> MetaOptimizer | None:
        return MetaOptimizer(1e-5, momentum=0.9, nesterov=True, weight_decay=5e-4) if self.learned else None

    def meta_grads(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Mapping[str, Tensor]:
        train, meta, function = batches["uniform"], batches["meta"], as_function(net)
        names, phi = zip(*net.aux["weighting"].named_parameters(), strict=True)

        def train_loss(outputs: Outputs) -> Tensor:
            weights: Tensor = net.aux["weighting"](outputs[0])
            return (weights * outputs[0]).sum() / weights.sum()

        result = meta_gradients(
            lambda parameters: (cross_entropies(function.call(parameters, train.images)[0], train.labels),),
            train_loss,
            function.meta_loss(*meta),
            function.parameters,
            ctx.lr,
            phi,
        )
        return {f"aux.weighting.{name}": gradient for name, gradient in zip(names, result, strict=True)}

    def loss(self, net: Net, batches: Mapping[str, Batch], ctx: StepContext) -> Tensor:
        images, labels = batches["uniform"]
        losses = cross_entropies(net(images)[0], labels)
        with torch.no_grad():
            weights: Tensor = net.aux["weighting"](losses)
            for at in (0.05, 1.0, 5.0):
                ctx.log(f"V({at:g})", net.aux["weighting"](losses.new_full((1,), at)).squeeze(0))
        return (weights * losses).sum() / weights.sum()

    def inactive_fields(self) -> frozenset[str]:
        return frozenset() if self.learned else frozenset({"meta"})
