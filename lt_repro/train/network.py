"""Networks of recipes: fresh ones, and those with the weights that a run has stored."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lt_repro.data.images import Images
from lt_repro.data.normalise import channel_statistics
from lt_repro.errors import DamagedError, RequestError, first_line
from lt_repro.methods.base import Method
from lt_repro.nets.batchnorm import BatchNorm
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.recipe import Recipe
from lt_repro.store import runs
from lt_repro.store.runs import Run


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


def parent_weights(parent: Recipe, images: Images, folders: Sequence[Path]) -> tuple[Run, Mapping[str, Tensor]]:
    """Returns the run of a parent and its final weights, from the first folder that has both.

    Raises:
        RequestError: It is missing or was trained on another split.
        DamagedError: Its run file or its weights are damaged.
    """
    run, weights = runs.weights(parent, folders)
    if run.split["digest"] != images.split.digest:
        raise RequestError(
            f"the parent {run.path} was trained on another split, {run.split['digest'][:8]}",
            f"allowed: a parent trained on this one, {images.split.digest[:8]}",
        )
    return run, weights


def teacher(parent: Recipe, weights: Mapping[str, Tensor], images: Images, device: torch.device) -> ResNet:
    """Returns the frozen network of a parent in the role of a teacher, in evaluation mode."""
    return trained(parent, weights, images, device).requires_grad_(False)


def group_of(name: str, method: Method) -> str | None:
    """Returns the prefix in a method's `param_groups` that a parameter belongs to; None if it is frozen.

    Args:
        name: The parameter's name; one that begins with "aux." belongs only to a prefix that does.
        method: The method.
    """
    fits = [p for p in method.param_groups if name.startswith(p) and p.startswith("aux.") == name.startswith("aux.")]
    return max(fits, key=len, default=None)


def freeze(net: ResNet, method: Method) -> None:
    """Freezes every parameter that a method's optimiser does not train."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(group_of(name, method) is not None)


def set_modes(net: ResNet, method: Method) -> None:
    """Puts the parts of a network that hold anything trained into training mode, the others into evaluation mode."""
    for module in net.modules():  # the whole first, then its parts: what holds nothing trained stays as it is
        module.train(method.update_bn_stats or any(parameter.requires_grad for parameter in module.parameters()))
