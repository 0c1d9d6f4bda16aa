"""Meta gradients: how a loss after one virtual step of SGD changes with what that step depends on, as pure functions.

Legend: theta the network's parameters, phi what the meta batch decides, a the learning rate, L the loss of the training
batch as a function of phi and of what the network puts out, M the loss of the meta batch.

    theta'(phi) = theta - a grad_theta L(outputs(theta), phi), without momentum and weight decay
    dM(theta'(phi)) / dphi = -a d/dphi <v, grad_theta L>,  v = grad M at theta', constant
    <v, grad_theta L> = <grad_outputs L, d>,  d the derivative of outputs(theta) along v

One pass in forward mode gives d, so the network is never differentiated twice: only the small remainder from outputs
and phi to L is. The result is exact. It needs the memory of a plain step and about the time of three.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from lt_repro.losses import cross_entropies

Parameters = Mapping[str, Tensor]
Outputs = tuple[Tensor, ...]


class Function(NamedTuple):
    """A network as a function of its parameters: `call(parameters, images)` gives the logits of every branch.

    A call in training mode uses the statistics of its batch and leaves the running ones as they are.
    """

    parameters: Parameters
    call: Callable[[Parameters, Tensor], list[Tensor]]

    def meta_loss(self, images: Tensor, labels: Tensor) -> Callable[[Parameters], Tensor]:
        """Returns the mean cross-entropy of a meta batch under the first branch, as a function of the parameters."""
        return lambda parameters: cross_entropies(self.call(parameters, images)[0], labels).mean()


class Sensitive(NamedTuple):
    """Outputs at the network's parameters, and their derivatives along the gradient of the meta loss."""

    outputs: Outputs
    derivatives: Outputs


def as_function(net: Any) -> Function:
    """Returns a network as a function of its parameters, without those under `aux`.

    Args:
        net: A module.
    """
    module = cast(nn.Module, net)

    def network(named: Any) -> dict[str, Tensor]:
        return {name: value for name, value in named if not name.startswith("aux.")}

    def call(parameters: Parameters, images: Tensor) -> list[Tensor]:
        # Copied in each call: a pass in training mode changes the running statistics that it is given.
        buffers = {name: value.clone() for name, value in network(module.named_buffers()).items()}
        return cast(list[Tensor], functional_call(module, {**parameters, **buffers}, (images,)))

    return Function({name: value.detach() for name, value in network(module.named_parameters()).items()}, call)


def sensitive(
    outputs: Callable[[Parameters], Outputs],
    train_loss: Callable[[Outputs], Tensor],
    meta_loss: Callable[[Parameters], Tensor],
    parameters: Parameters,
    lr: Tensor | float,
) -> Sensitive:
    """Returns the outputs at `parameters`, and their derivatives along v, the gradient of the meta loss at theta'.

    Computed in the precision of the parameters, whatever autocast says. Nothing that is returned has a graph.

    Args:
        outputs: What the training batch's loss depends on, as a function of the parameters.
        train_loss: L, as a function of the outputs.
        meta_loss: M, as a function of the parameters.
        parameters: theta, detached; each of them decides both losses.
        lr: a.
    """
    names = list(parameters)
    with torch.autocast(parameters[names[0]].device.type, enabled=False):
        leaves = _leaves(parameters)
        gradients = torch.autograd.grad(train_loss(outputs(leaves)), list(leaves.values()))
        stepped = _leaves({n: parameters[n] - lr * g for n, g in zip(names, gradients, strict=True)})
        direction = torch.autograd.grad(meta_loss(stepped), list(stepped.values()))
        with torch.no_grad(), warnings.catch_warnings():
            # torch warns of one of its functions when it loads the formulas of forward mode.
            warnings.filterwarnings("ignore", "`torch.jit.script`", FutureWarning)
            result = jvp(outputs, (dict(parameters),), (dict(zip(names, direction, strict=True)),))
    return Sensitive(*cast(tuple[Outputs, Outputs], result))


def meta_gradients(
    outputs: Callable[[Parameters], Outputs],
    train_loss: Callable[[Outputs], Tensor],
    meta_loss: Callable[[Parameters], Tensor],
    parameters: Parameters,
    lr: Tensor | float,
    phi: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Returns the gradient of the meta loss after the virtual step for each of `phi`, leaves that require a gradient.

    The other arguments are those of `sensitive`; `train_loss` depends on `phi` too.
    """
    point = sensitive(outputs, train_loss, meta_loss, parameters, lr)
    with torch.autocast(phi[0].device.type, enabled=False):
        leaves = tuple(value.detach().requires_grad_() for value in point.outputs)
        gradients = torch.autograd.grad(train_loss(leaves), leaves, create_graph=True)
        along = torch.stack([(g * d).sum() for g, d in zip(gradients, point.derivatives, strict=True)]).sum()
        return torch.autograd.grad(-lr * along, list(phi))


def _leaves(parameters: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}
