"""BatchNorm's statistics, gathered otherwise from the same weights: test images are not mixed, running ones often are.

A choice of evaluation, not of training: everything here works on a copy. Related: the shift learning of MiSLAS (Zhong
et al. 2021), refining with clean data (He et al. 2019), precise BatchNorm (Wu and Johnson 2021).
"""

import copy
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import nn

from lt_repro.methods.base import StepContext
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.recipe import Recipe
from lt_repro.train import network
from lt_repro.train.batches import Source, draw_epoch, load_batches

Gathered = Literal["mixed", "clean", "blend"]
"""mixed: a plain mean over an epoch of training batches, as drawn in training; clean: the same without mixing, each
branch its own sampler's images; blend: running statistics with, after each training batch, a clean batch passed through
all branches in training mode, as the released code of DBN-Mix does with one branch."""
GATHERED: tuple[Gathered, ...] = get_args(Gathered)
RUNNING = "running"
"""The statistics that training left, which every code tests with: the headline."""


def regathered(
    kind: Gathered,
    recipe: Recipe,
    net: ResNet,
    sources: Mapping[str, Source],
    class_counts: torch.Tensor,
    teachers: Mapping[str, ResNet],
    epoch: int,
) -> ResNet:
    """Returns a copy of a network, in evaluation mode, whose BatchNorm statistics are gathered anew, in fp32.

    Where the method's running statistics are not of mixed images (`Method.gathers_mixed`) it is the network
    itself: there is nothing to gather.

    Args:
        kind: What is gathered.
        recipe: What the network was trained by.
        net: On its device; not changed.
        sources: What the recipe draws from, on the same device.
        class_counts: (K,) float32 on the same device.
        teachers: The frozen networks of the recipe's parents in that role.
        epoch: Whose batches are passed, from 0: that which was trained last.
    """
    method = recipe.method
    if not method.gathers_mixed:
        return net.eval()
    copied = copy.deepcopy(net)
    network.freeze(copied, method)
    network.set_modes(copied, method)
    if kind != "blend":
        for layer in copied.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.training:
                layer.reset_running_stats()
                layer.momentum = None  # torch's word for a plain mean
    inputs = draw_epoch(recipe, sources, epoch, class_counts.device)
    names = method.unmixed(epoch / recipe.epochs)
    for step in range(len(inputs.progress)):
        batches, random = load_batches(inputs, sources, step, recipe.crop)
        if kind != "clean":
            where = inputs.progress[step], inputs.epoch_progress, inputs.lr[step], class_counts
            method.loss(copied, batches, StepContext(*where, random, teachers))  # M2m needs gradients of its images
        if kind != "mixed":
            images = [batches[name].images for name in names]
            with torch.no_grad():
                copied.features(images if kind == "clean" else images[0])
    return copied.eval()
