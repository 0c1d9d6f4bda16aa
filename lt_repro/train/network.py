"""Networks of recipes: fresh ones, and those with the weights that a run has stored."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lt_repro.data.images import Images
from lt_repro.data.normalise import channel_statistics
from lt_repro.errors import DamagedError, first_line
from lt_repro.nets.batchnorm import BatchNorm
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.recipe import Recipe


def fresh(recipe: Recipe, images: Images) -> ResNet:
    """Returns the network of a recipe with its method's modules, on the CPU, drawn from torch's global generator.

    Args:
        recipe: What is trained.
        images: Its images, whose statistics the first layer normalises by.
    """
    counts = torch.from_numpy(images.split.counts).float()
    statistics = channel_statistics(recipe.dataset, recipe.normalise, images.train_images)
    net = ResNet(recipe.net, recipe.spec, len(counts), *statistics)
    net.aux.update(recipe.method.aux_modules(counts, recipe.spec))
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.parts = recipe.bn_parts
    return net


def placed(net: ResNet, device: torch.device) -> ResNet:
    """Returns the network on a device, in the memory format that all networks compute in."""
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def trained(recipe: Recipe, weights: Mapping[str, Tensor], images: Images, device: torch.device) -> ResNet:
    """Returns the network of a recipe with its final weights, on a device, in evaluation mode.

    Args:
        recipe: What was trained.
        weights: All its tensors, as the run stored them.
        images: Its images.
        device: Where it will compute.

    Raises:
        DamagedError: The weights are of another network: another version of this code stored them.
    """
    net = fresh(recipe, images)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedError(
            f"the weights of {recipe.key()} do not fit its network: {first_line(error)}",
            "allowed: weights that this version of the code stored, or one with the same networks",
            "use the commit that the run file names, or train the run again",
        ) from error
    return placed(net, device).eval()
