"""The state of a run under way: its network, its optimiser, where in training it is; saved and restored bit for bit."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lt_repro.data.images import Images, Pool
from lt_repro.data.samplers import generator
from lt_repro.errors import DamagedError, RequestError
from lt_repro.methods.base import Batch, StepContext
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.recipe import Recipe
from lt_repro.store import checkpoint, provenance
from lt_repro.train import evaluate, network
from lt_repro.train.batches import draw_epoch, load_batches, make_sources
from lt_repro.train.bn_statistics import GATHERED, Gathered, regathered
from lt_repro.train.device import pick_precision
from lt_repro.train.optimizer import SGD


class TrainState:
    """One run under way.

    Args:
        recipe: What is trained.
        images: What it is trained and tested on.
        out: Folder of its checkpoint, weights and run file; a checkpoint there is read.
        device: What it runs on.
        parents: Folders in which its parents are looked for before `out`.

    Raises:
        RequestError: The images are too small or too few, a parent or a source of images is missing, or the checkpoint
            belongs to another device, other images or other parents.
        DamagedError: A parent's weights are damaged, or the checkpoint is of another version.
    """

    def __init__(
        self, recipe: Recipe, images: Images, out: Path, device: torch.device, parents: Sequence[Path] = ()
    ) -> None:
        self.recipe, self.images, self.out, self.device = recipe, images, out, device
        check_size(recipe, images)
        self.precision = pick_precision(recipe.precision, device)
        self.sources = make_sources(images, recipe, device)
        _check_names(recipe, self.sources)
        self.steps = -(-recipe.images_per_epoch(images.split.counts.tolist()) // recipe.batch)
        if not self.steps:
            raise RequestError(
                f"{len(images.train_images)} training images with batch = {recipe.batch} and bn_parts > 1",
                "allowed: at least one whole batch an epoch: with bn_parts > 1 the last short one is dropped",
                "use a smaller batch, or bn_parts = 1",
            )
        self.class_counts = torch.from_numpy(images.split.counts).float().to(device)
        self.parents: dict[str, dict[str, str]] = {}
        self.teachers: dict[str, ResNet] = {}
        self.net = self._build(parents)
        self.optimizer = self._optimizer()
        self.meta_optimizer = self._meta_optimizer()

        self.started = self.saved_at = self.epoch_started = time.monotonic()
        self.epoch = self.step = 0
        self.diverged: dict[str, int] | None = None
        self.loss_sum = torch.zeros((), device=device)
        self.first_nonfinite = torch.full((), -1, device=device)
        self.history: dict[str, list[float | None]] = {"loss": []}
        self.logged: dict[str, Tensor] = {}
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.seconds = self.train_seconds = 0.0
        self.images_passed = 0
        self.attempts: list[dict[str, Any]] = []
        state, damaged = checkpoint.load(self.path)
        if state is not None:
            self._restore(state)
        attempt = {"epoch": self.epoch, "step": self.step, "ended": "lost"} | ({"damaged": damaged} if damaged else {})
        self.attempts.append(attempt | provenance.origin(device))
        if self.optimizer is None:  # nothing is trained: the network is evaluated as it is
            self.epoch = recipe.epochs
            self._evaluate()

    @property
    def path(self) -> Path:
        """Returns where the checkpoint lies while the run is under way."""
        return self.out / f"{self.recipe.key()}.ckpt"

    @property
    def done(self) -> bool:
        """Returns whether the last epoch is over or the run has diverged."""
        return self.diverged is not None or self.epoch == self.recipe.epochs

    def autocast(self) -> torch.autocast:
        """Returns the context in which networks compute in bf16, or do nothing at fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def start_epoch(self) -> None:
        """Draws all random numbers of the epoch and puts every module into its mode."""
        self.inputs = draw_epoch(self.recipe, self.sources, self.epoch, self.device)
        network.set_modes(self.net, self.recipe.method)
        self.epoch_started = time.monotonic()

    def load_batches(self) -> tuple[dict[str, Batch], StepContext]:
        """Returns the batches of the next step and its context; sets the optimiser's rates."""
        inputs, step = self.inputs, self.step
        batches, random = load_batches(inputs, self.sources, step, self.recipe.crop)
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"].copy_(group["lr_factor"] * inputs.lr[step])
        where = inputs.progress[step], inputs.epoch_progress, inputs.lr[step], self.class_counts
        return batches, StepContext(*where, random, self.teachers, self._log)

    def record(self, loss: Tensor) -> None:
        """Adds the step's loss, on the device: nothing is read back inside an epoch."""
        self.loss_sum += loss
        fresh = (self.first_nonfinite < 0) & ~torch.isfinite(loss)
        self.first_nonfinite.copy_(torch.where(fresh, self.step, self.first_nonfinite))
        self.step += 1
        self.images_passed += self.net.images_seen
        self.net.images_seen = 0

    def finish_epoch(self, eval_every: int, eval_bn: bool = False) -> None:
        """Reads the epoch's loss, ends the run if it was not finite, tests it where the curve has a point.

        Args:
            eval_every: See `fit`.
            eval_bn: See `fit`.
        """
        mean, first = (self.loss_sum / self.steps).item(), int(self.first_nonfinite.item())
        self.train_seconds += time.monotonic() - self.epoch_started
        if first >= 0:
            self.diverged = {"epoch": self.epoch, "step": first}
            return
        logged = {name: total.tolist() for name, total in self.logged.items()}
        means = {name: total / count for name, (total, count) in logged.items() if count} | {"loss": mean}
        # The last step can break the network after the last loss was taken, and running statistics show in no loss.
        if not all(map(math.isfinite, means.values())) or not self._finite():
            self.diverged = {"epoch": self.epoch, "step": self.steps - 1}
            return
        for name in dict.fromkeys([*self.history, *means]):
            self.history.setdefault(name, [None] * self.epoch).append(means.get(name))
        self.epoch, self.step = self.epoch + 1, 0
        for total in (self.loss_sum, *self.logged.values()):
            total.zero_()
        if self.epoch % eval_every == 0 or self.done:
            self._evaluate(eval_bn)

    def result_bn(self) -> dict[str, dict[str, Any]]:
        """Returns what the present weights give with BatchNorm's statistics gathered otherwise, by `GATHERED`.

        Each has the fields of `evaluate.outcome`. Where there is nothing to gather, it is the last test's.
        """
        if not self.recipe.method.gathers_mixed:
            return dict.fromkeys(GATHERED, self._outcome(self.logits))
        return {kind: self._outcome(self.predict(self._regathered(kind))) for kind in GATHERED}

    def _regathered(self, kind: Gathered) -> ResNet:
        last = self.epoch - 1
        return regathered(kind, self.recipe, self.net, self.sources, self.class_counts, self.teachers, last)

    def predict(self, net: ResNet | None = None) -> evaluate.Logits:
        """Returns the logits of all test images, of the network or of a copy of it with other statistics."""
        return evaluate.predict(self.recipe.method, net or self.net, self.images.test_images, self.device)

    def _outcome(self, logits: evaluate.Logits) -> dict[str, Any]:
        return evaluate.outcome(logits, self.images, self.recipe.spec.branches)

    def save(self, ended: str = "lost") -> None:
        """Writes the checkpoint; `ended` is how this attempt ends unless a later checkpoint says otherwise."""
        # Never a broken network over the last good one.
        if self.done or self.first_nonfinite.item() >= 0 or not self._finite():
            return
        self.attempts[-1]["ended"] = ended
        recipe = self.recipe
        summary = {"key": recipe.key(), "epoch": self.epoch, "epochs": recipe.epochs, "step": self.step}
        summary |= {"steps": self.steps, "attempts": len(self.attempts), "ended": ended}
        checkpoint.save(self.path, self._to_save(), summary)
        self.saved_at = time.monotonic()

    def _build(self, folders: Sequence[Path]) -> ResNet:
        recipe = self.recipe
        # Heads that start fresh on a parent's features are not those that the parent itself started from.
        stage = len(recipe.lineage()) - 1 if "features" in recipe.parents else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(recipe.seed, "init", stage).integers(2**63)))
            net = network.fresh(recipe, self.images)
        for role, parent in recipe.parents.items():
            run, weights = network.parent_weights(parent, self.images, [*folders, self.out])
            self.parents[role] = {"key": parent.key(), "weights": (run.weights or {})["sha256"]}
            if role == "teacher":
                self.teachers[role] = network.teacher(parent, weights, self.images, self.device)
            else:
                net.load_parent(weights, heads=role == "weights")
        return network.placed(net, self.device)

    def _optimizer(self) -> SGD | None:
        """Returns SGD over what the method trains, None where that is nothing; every other parameter is frozen."""
        recipe = self.recipe
        groups: dict[str, dict[str, Any]] = {
            prefix: {
                "params": [],
                "lr": torch.zeros((), device=self.device),  # a tensor: it is set in place, on the device
                "lr_factor": factor,
                "weight_decay": decay * recipe.weight_decay,
            }
            for prefix, (factor, decay) in recipe.method.param_groups.items()
        }
        network.freeze(self.net, recipe.method)
        for name, parameter in self.net.named_parameters():
            if (prefix := network.group_of(name, recipe.method)) is not None:
                groups[prefix]["params"].append(parameter)
        if not groups:
            return None
        return SGD(list(groups.values()), momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)

    def _meta_optimizer(self) -> torch.optim.Optimizer | None:
        """Returns the optimiser of the auxiliary parameters that no parameter group trains, if the method has one."""
        meta = self.recipe.method.meta_optimizer
        if meta is None:
            return None
        rest = [parameter for parameter in self.net.aux.parameters() if not parameter.requires_grad]
        for parameter in rest:
            parameter.requires_grad_(True)
        return SGD(rest, **meta._asdict())

    def _evaluate(self, eval_bn: bool = False) -> None:
        self.logits = self.predict()
        if not torch.from_numpy(self.logits.combined).isfinite().all():
            self.diverged = {"epoch": self.epoch - 1, "step": self.steps - 1}
            return
        outcome = self._outcome(self.logits)
        point = {"epoch": self.epoch, "all": outcome["accuracy"]["all"]}
        if self.best is None or point["all"] > self.best["all"]:
            branches = {name: {"accuracy": scores["accuracy"]} for name, scores in outcome["branches"].items()}
            self.best = point | {"accuracy": outcome["accuracy"], "branches": branches}
        if eval_bn:
            point["bn"] = {kind: scores["accuracy"]["all"] for kind, scores in self.result_bn().items()}
        self.curve.append(point)

    def _finite(self) -> bool:
        """Returns whether every weight and every running statistic is finite."""
        return bool(torch.stack([value.isfinite().all() for value in self.net.state_dict().values()]).all().item())

    def _log(self, name: str, value: Tensor) -> None:
        """Adds a scalar to the epoch's sum of that name, and one to how many there are, in place."""
        total = self.logged.setdefault(name, torch.zeros(2, device=self.device))
        total += torch.stack([value.detach().float(), torch.ones((), device=self.device)])

    def _identity(self) -> dict[str, Any]:
        """Returns what a process must have in common with the one that wrote a checkpoint."""
        names = {"precision": self.precision, "data": self.images.digest, "parents": self.parents}
        return {"key": self.recipe.key()} | names

    def _to_save(self) -> dict[str, Any]:
        """Returns all that decides how the run continues, as tensors and builtins."""
        assert self.optimizer is not None
        now = time.monotonic()
        state = self._identity() | {
            "net": self.net.state_dict(),
            "momentum": [self.optimizer.state[p].get("momentum_buffer") for p in self.net.parameters()],
            "meta_optimizer": self.meta_optimizer.state_dict() if self.meta_optimizer else None,
            "loss_sum": self.loss_sum,
            "logged": self.logged,
            "first_nonfinite": self.first_nonfinite,
            "seconds": self.seconds + now - self.started,
            "train_seconds": self.train_seconds + (now - self.epoch_started if self.step else 0.0),
        }
        return state | {name: getattr(self, name) for name in _PLAIN}

    def _restore(self, state: dict[str, Any]) -> None:
        if "best" not in state:  # a checkpoint of before 2026-12: the best point so far, without its groups
            state["best"] = max(state["curve"], key=lambda point: point["all"], default=None)
        unexpected = state.keys() ^ self._to_save().keys()
        if unexpected or state["net"].keys() != self.net.state_dict().keys():
            raise DamagedError(
                f"{self.path} was written by another version: {', '.join(sorted(unexpected)) or 'other weights'}",
                "allowed: the version that started a run",
                "it was not changed; move it away to start the run again",
            )
        for name, value in self._identity().items():
            if state[name] != value:
                raise RequestError(
                    f"checkpoint {self.path} has {name}={state[name]}, this run has {value}",
                    "allowed: the device, the images and the parents' weights that the run started with",
                    "use those again, or move the checkpoint away to start over",
                    kind="other machine",
                )
        self.net.load_state_dict(state["net"])
        assert self.optimizer is not None
        for parameter, momentum in zip(self.net.parameters(), state["momentum"], strict=True):
            if momentum is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device).clone()
        if self.meta_optimizer:
            self.meta_optimizer.load_state_dict(state["meta_optimizer"])
        self.loss_sum.copy_(state["loss_sum"])
        self.first_nonfinite.copy_(state["first_nonfinite"])
        self.logged = {name: pair.to(self.device) for name, pair in state["logged"].items()}
        for name in (*_PLAIN, "seconds", "train_seconds"):
            setattr(self, name, state[name])


_PLAIN = ("epoch", "step", "history", "curve", "best", "images_passed", "attempts")


def check_size(recipe: Recipe, images: Images | Pool) -> None:
    """Checks that images are large enough for the networks and for a recipe's crop.

    Raises:
        RequestError: They are not.
    """
    height, width = images.train_images.shape[1:3]
    if min(height, width) < 8:
        raise RequestError(f"images of {height} x {width} pixels", "allowed: 8 x 8 and larger")
    most = min(height, width) - (recipe.crop_pad == "reflect")
    if recipe.crop > most:
        raise RequestError(
            f"crop = {recipe.crop} for {height} x {width} pixels",
            f"allowed: 0 to {most} with crop_pad {recipe.crop_pad}",
        )


def _check_names(recipe: Recipe, sources: dict[str, Any]) -> None:
    """Checks that what a method draws has names of its own, from sources that there are."""
    method = recipe.method
    for progress in (0.0, 1.0 - 1.0 / recipe.epochs):
        drawn = method.samplers(progress)
        names = [sampled.name for sampled in drawn] + list(method.random_inputs)
        if unexpected := [name for name in names if names.count(name) > 1 or name == "init" or "/" in name]:
            raise RequestError(f"method {method.name()} draws {unexpected[0]!r} twice, or under a reserved name")
        if missing := [sampled.source for sampled in drawn if sampled.source not in sources]:
            raise RequestError(
                f"method {method.name()} without {missing[0]!r} images", f"these images have: {', '.join(sources)}"
            )
