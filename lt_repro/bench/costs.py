"""What each method costs beside plain cross-entropy: time and arithmetic of an epoch, memory, parameters, test time.

Turns alternate with plain cross-entropy's in one process (A B A B ...), so a busy machine slows both.
"""

import dataclasses
import operator
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lt_repro import fields
from lt_repro.bench import compare
from lt_repro.bench.ours import Ours
from lt_repro.bench.turn import Turn
from lt_repro.data.images import Images, Pool, images_of
from lt_repro.methods import METHODS
from lt_repro.methods.base import Method
from lt_repro.recipe import Recipe
from lt_repro.store import provenance
from lt_repro.train.bn_statistics import GATHERED, regathered
from lt_repro.train.device import pick_device, pick_precision
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState

TESTED = 500  # images tested in a turn
STAGES = (0.05, 0.95)
"""The fractions of training at which a step is measured: what a method does may change on the way."""


def measure(
    methods: Iterable[type[Method]],
    device: str,
    precision: str,
    rounds: int,
    steps: int,
    watch: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Returns the costs of methods as JSON values: where they were measured, and one entry per `variants`.

    An entry has `method`, `settings` (as typed, where they differ from the defaults), `epochs`, and relative to plain
    cross-entropy, each 1 for the same: `epoch` and `arithmetic` (an epoch's seconds and floating-point operations, at
    each of `STAGES`), `run` (of its own stage, without the parent's), `memory` (see `kept_bytes`), `trained` and
    `stored` (parameters), `test`, and `statistics` (the operations of gathering BatchNorm's other statistics at the end
    of a run, in epochs of cross-entropy; 0 where nothing is mixed); and `rounds`, `steps` and `commit`, how it was
    measured. A method that trains nothing has no `epoch` and no `arithmetic`, and a `run` of 0.

    Args:
        methods: Which.
        device: Where to train.
        precision: "auto", "bf16" or "fp32".
        rounds: Turns of each method; medians are returned.
        steps: Training steps of a turn.
        watch: Called with a line after each entry.

    Raises:
        RequestError: There is no such device.
    """
    place, plain = pick_device(device), compare.recipe(precision=precision)
    pool = compare.random_pool(100, 500, TESTED)
    images = images_of(plain.subset, pool)
    reference = Ours(plain, images, place)
    reference.turn(2, 0)  # the first steps choose kernels and ask for memory
    fixed = _fixed(reference.state)
    how = {"rounds": rounds, "steps": steps, "commit": provenance.commit()}
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        parents: dict[str, Recipe] = {}  # whose weights do not matter, only their number
        for method in (method for cls in methods for method in variants(cls)):
            if method.first_stage not in parents:
                first = dataclasses.replace(plain, method=METHODS[method.first_stage](), epochs=1, epoch_steps=1)
                fit(first, images, out=Path(folder), device=device)
                parents[method.first_stage] = first
            recipe = dataclasses.replace(
                plain,
                method=method,
                parents=dict.fromkeys(method.parents, parents[method.first_stage]),
                **method.defaults,
            )
            contender = Ours(recipe, _with_sources(images, pool, method), place, (Path(folder),))
            entries.append(_entry(contender, reference, fixed, rounds, steps) | how)
            watch(f"{method.name()}: a run costs {entries[-1]['run']:.2f} of cross-entropy's")
    return {
        "device": provenance.device_words(place),
        "torch": torch.__version__,
        "precision": pick_precision(precision, place),
        "date": time.strftime("%Y-%m-%d"),
        "cross_entropy": {"epochs": plain.epochs, "net": plain.net, "batch": plain.batch} | fixed,
        "costs": entries,
    }


def variants(cls: type[Method]) -> list[Method]:
    """Returns the default instance of a method, and those of its examples whose step is another piece of work."""
    kinds: dict[Any, Method] = {}
    for method in (cls(), *cls.examples()):
        spec = method.net_spec()
        batches = tuple((sampled.source, sampled.batch) for stage in STAGES for sampled in method.samplers(stage))
        kind = spec.branches, spec.split_at, spec.widths, method.parents, tuple(method.param_groups), batches
        kinds.setdefault(kind, method)
    return list(kinds.values())


def kept_bytes(state: TrainState) -> int:
    """Returns the most bytes that autograd keeps at a time for backward passes of a step, without the network's own.

    Where a step also takes meta gradients, those of the larger of the two.
    """
    state.start_epoch()
    state.step = 0
    batches, ctx = state.load_batches()
    network = {value.untyped_storage().data_ptr() for value in state.net.state_dict().values()}

    def kept(compute: Callable[..., Any]) -> int:
        memory = _Memory(network)
        with state.autocast(), torch.autograd.graph.saved_tensors_hooks(memory.pack, operator.attrgetter("tensor")):
            compute(state.net, batches, ctx)
        return memory.peak

    method = state.recipe.method
    graphs = [method.loss, method.meta_grads] if state.meta_optimizer else [method.loss]
    result = max(map(kept, graphs))
    state.net.images_seen = 0
    return result


class _Kept:
    """A tensor that a graph keeps; when the graph lets it go, `memory` forgets it."""

    def __init__(self, tensor: torch.Tensor, memory: "_Memory") -> None:
        self.tensor, self.memory = tensor, memory

    def __del__(self) -> None:
        self.memory.forget(self.tensor.untyped_storage())


class _Memory:
    """Counts the bytes of the storages that graphs keep at a time, each once; without some."""

    def __init__(self, without: set[int]) -> None:
        self.without, self.users = without, Counter[int]()
        self.total = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        self.users[storage.data_ptr()] += 1
        if self.users[storage.data_ptr()] == 1 and storage.data_ptr() not in self.without:
            self.total += storage.nbytes()
            self.peak = max(self.peak, self.total)
        return _Kept(tensor, self)

    def forget(self, storage: torch.UntypedStorage) -> None:
        self.users[storage.data_ptr()] -= 1
        if self.users[storage.data_ptr()] == 0 and storage.data_ptr() not in self.without:
            self.total -= storage.nbytes()


def _entry(contender: Ours, reference: Ours, fixed: dict[str, Any], rounds: int, steps: int) -> dict[str, Any]:
    """Returns what one instance of a method costs relative to plain cross-entropy."""
    state, recipe = contender.state, contender.state.recipe
    result = _fixed(state)
    stages = STAGES if state.optimizer else ()
    for stage in stages:
        _seek(contender, stage)
        contender.turn(2, 0)
    seconds: dict[float, list[float]] = {stage: [] for stage in stages}
    tests = []
    for _ in range(rounds):
        plain = reference.turn(steps, TESTED)
        for stage in stages:
            _seek(contender, stage)
            turn = contender.turn(steps, 0)
            seconds[stage].append(_epoch_seconds(turn, state, steps) / _epoch_seconds(plain, reference.state, steps))
        tests.append(contender.turn(0, TESTED).test / plain.test)
    epoch = [statistics.median(ratios) for ratios in seconds.values()]
    switch = getattr(recipe.method, "switch", 0.5)
    share = recipe.epochs / reference.state.recipe.epochs
    return {
        "method": recipe.method.name(),
        "settings": {
            field.name: fields.text(value)
            for field in dataclasses.fields(recipe.method)
            if (value := getattr(recipe.method, field.name)) != field.default
        },
        "epochs": recipe.epochs if epoch else 0,
        "epoch": epoch,
        "arithmetic": [operations / fixed["operations"][0] for operations in result["operations"]],
        "run": share * (switch * epoch[0] + (1 - switch) * epoch[1]) if epoch else 0.0,
        **{name: result[name] / fixed[name] for name in ("memory", "trained", "stored")},
        "test": statistics.median(tests),
        "statistics": _statistics_operations(state) / fixed["operations"][0],
    }


def _fixed(state: TrainState) -> dict[str, Any]:
    """Returns what is no matter of time: an epoch's operations at each stage, bytes kept, parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in state.net.parameters()]
    trains = state.optimizer is not None
    return {
        "operations": [_epoch_operations(state, stage) for stage in STAGES] if trains else [],
        "memory": kept_bytes(state) if trains else 0,
        "trained": sum(size for size, trained in sizes if trained),
        "stored": sum(size for size, _ in sizes),
    }


def _seek(contender: Ours, stage: float) -> None:
    contender.state.epoch = int(stage * contender.state.recipe.epochs)


def _epoch_seconds(turn: Turn, state: TrainState, steps: int) -> float:
    return turn.start + turn.train * state.steps / steps


def _epoch_operations(state: TrainState, stage: float) -> int:
    """Returns the floating-point operations of an epoch of whole batches."""
    state.epoch, state.step = int(stage * state.recipe.epochs), 0
    state.start_epoch()
    with _Operations() as counter:
        train_step(state)
    return int(counter.total) * state.steps


def _statistics_operations(state: TrainState) -> int:
    """Returns the floating-point operations of gathering BatchNorm's other statistics once, tests left out."""
    if not state.recipe.method.gathers_mixed:
        return 0
    one_step = state.recipe.replace(epoch_steps=1)
    inputs = state.net, state.sources, state.class_counts, state.teachers, state.recipe.epochs - 1
    with _Operations() as counter:
        for kind in GATHERED:
            regathered(kind, one_step, *inputs)
    return int(counter.total) * state.steps


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations; torch's own counter also follows modules, which fails under meta gradients."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _with_sources(images: Images, pool: Pool, method: Method) -> Images:
    """Returns the images with ten of each class for every further source that a method draws from."""
    named = {sampled.source for stage in STAGES for sampled in method.samplers(stage)} - {"train", *images.extra}
    chosen = np.concatenate([np.flatnonzero(pool.train_labels == k)[:10] for k in range(len(pool.class_names))])
    extra = dict.fromkeys(named, (pool.train_images[chosen], pool.train_labels[chosen]))
    return dataclasses.replace(images, extra={**images.extra, **extra})
