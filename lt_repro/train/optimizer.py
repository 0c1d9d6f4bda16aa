"""SGD as torch has it, without the seconds that its wrappers for torch.compile take to import."""

import inspect

import torch


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, called directly: its methods are wrapped by what imports `torch._dynamo`, unused here.

    Importing that takes two seconds, a third of the time from a command to its first step.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
