"""The one training loop: `fit(recipes) -> runs`. A `Lane` is one run under way; usually there is one."""

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lt_repro import metrics
from lt_repro.data import augment, samplers
from lt_repro.data.normalise import channel_statistics
from lt_repro.data.pools import Images
from lt_repro.data.split import class_groups
from lt_repro.errors import DamagedError, FailedError, RequestError
from lt_repro.methods.base import At, Batch
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.recipe import Recipe
from lt_repro.schedules import learning_rate
from lt_repro.store import checkpoint, files, provenance, runs
from lt_repro.store.runs import Run
from lt_repro.train.signals import Stop

TEST_BATCH = 1000


def fit(
    recipes: Sequence[Recipe],
    images: Images,
    *,
    out: Path,
    parents: Sequence[Path] = (),
    device: str = "auto",
    eval_every: int = 10,
    save_every: float = 10.0,
    save_within: float = 120.0,
    watch: Callable[["Lane"], None] = lambda lane: None,
    stop: Stop | None = None,
) -> list[Run]:
    """Trains recipes of equal length side by side and returns their runs, each published in `out` as it ends.

    A run that was begun in `out` goes on from its checkpoint, bit for bit as if it had never stopped (on one kind of
    CPU with the same torch and threads). Nothing is read back from the device inside an epoch.

    Args:
        recipes: What to train; all on `images`, with the same epochs and batch.
        images: The selected training images and the test images.
        out: Folder for checkpoints, weights and run files.
        parents: Folders in which a recipe's parent is looked for, with its weights, before `out`.
        device: "auto", "cpu", "cuda" or "mps".
        eval_every: Epochs between points of the test-accuracy curve; the last epoch is always one.
        save_every: Seconds that must have passed since the last checkpoint for an epoch's end to write one.
        save_within: Seconds after which one is written inside an epoch too.
        watch: Called after every step and at every epoch's end.
        stop: Asked after every step; when it says so everything is saved and `Interrupted` raised.

    Raises:
        RequestError: The recipes do not fit each other, the device is not there, a parent or its weights are not
            there, or `out` cannot be written.
        DamagedError: A parent's weights are damaged, or a checkpoint is of another version.
        FailedError: A checkpoint, the weights or the run file could not be written.
        Interrupted: `stop` said so.
    """
    lanes = [Lane(recipe, images, out, pick_device(device), parents) for recipe in recipes]
    if len({(lane.steps, lane.recipe.epochs) for lane in lanes}) != 1:
        raise RequestError(
            "the recipes differ in length", "allowed: the same epochs, batch and epoch_images side by side"
        )
    files.ensure_writable(out, lanes[0].recipe.key())
    try:
        return _drive(lanes, eval_every, save_every, save_within, watch, stop or Stop())
    except (DamagedError, FailedError):
        raise
    except RequestError as error:  # everything asked for was right, so it is a write that failed
        saved = any(checkpoint.exists(lane.path) for lane in lanes)
        raise FailedError(
            str(error).splitlines()[0],
            "training stopped; what was saved before stays" if saved else "training stopped; nothing was saved yet",
            "make room and type the same command again"
            + (": it goes on from the last checkpoint" if saved else ": it begins anew"),
        ) from error


def _drive(
    lanes: list["Lane"],
    eval_every: int,
    save_every: float,
    save_within: float,
    watch: Callable[["Lane"], None],
    stop: Stop,
) -> list[Run]:
    ended: dict[str, Run] = {}
    for epoch in range(min(lane.epoch for lane in lanes), lanes[0].recipe.epochs):
        here = [lane for lane in lanes if lane.epoch == epoch and lane.bad is None]
        for lane in here:
            lane.start_epoch()
        for step in range(min((lane.step for lane in here), default=0), lanes[0].steps):
            for lane in here:
                if lane.step == step:
                    lane.train_step()
                    watch(lane)
                    if time.monotonic() - lane.saved >= save_within:
                        lane.save()
            if stop.asked:
                for lane in lanes:
                    lane.save("stopped")
                stop.check()
        for lane in here:
            lane.finish_epoch(eval_every)
            watch(lane)
            if lane.done:
                ended[lane.recipe.key()] = lane.publish()
            elif time.monotonic() - lane.saved >= save_every:
                lane.save()
    return [ended[lane.recipe.key()] for lane in lanes]


class Lane:
    """One run under way: its network, its optimiser, and where it stands.

    Args:
        recipe: What is trained.
        images: What it is trained and tested on.
        out: Folder of its checkpoint, weights and run file.
        device: What it runs on.
        parents: Folders in which its parent is looked for before `out`.
    """

    def __init__(
        self, recipe: Recipe, images: Images, out: Path, device: torch.device, parents: Sequence[Path] = ()
    ) -> None:
        self.recipe, self.images, self.out, self.device = recipe, images, out, device
        height, width = images.train_images.shape[1:3]
        if min(height, width) < 8:
            raise RequestError(f"images of {height} x {width} pixels", "allowed: 8 x 8 and larger")
        most = min(height, width) - (recipe.crop_pad == "reflect")
        if recipe.crop > most:
            raise RequestError(
                f"crop = {recipe.crop} for {height} x {width} pixels",
                f"allowed: 0 to {most} with crop_pad {recipe.crop_pad}",
            )
        self.precision = pick_precision(recipe.precision, device)
        self.counts = images.split.counts
        self.padded = augment.pad(torch.from_numpy(images.train_images), recipe.crop, recipe.crop_pad).to(device)
        self.labels = torch.from_numpy(images.train_labels).to(device)
        balanced = recipe.epoch_images == "balanced"
        self.total = int(self.counts.max()) * len(self.counts) if balanced else len(self.labels)
        if recipe.epoch_steps:
            self.total = min(self.total, recipe.epoch_steps * recipe.batch)
        self.steps = -(-self.total // recipe.batch)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(samplers.generator(recipe.seed, "init", 0).integers(2**63)))
            statistics = channel_statistics(recipe.dataset, recipe.normalise, images.train_images)
            net = ResNet(recipe.net, recipe.spec, len(self.counts), *statistics)
            net.own.update(recipe.method.modules(len(self.counts)))
        self.parents: dict[str, dict[str, str]] = {}
        for role, parent in recipe.parents.items():
            begun, weights = runs.weights(parent, [*parents, out])
            if begun.split["digest"] != images.split.digest:
                raise RequestError(
                    f"the parent {begun.path} is of another split, {begun.split['digest'][:8]}",
                    f"allowed: a parent trained on this one, {images.split.digest[:8]}",
                )
            self.parents[role] = {"key": parent.key(), "weights": (begun.weights or {})["sha256"]}
            net.take_features(weights)
        self.net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        moves: dict[str, Any] = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
        self.optimiser = torch.optim.SGD(self._groups(), **moves, fused=device.type in ("cpu", "cuda"))
        self.started = self.saved = self.begun = time.monotonic()
        self.epoch = self.step = 0
        self.bad: dict[str, int] | None = None
        self.loss_sum = torch.zeros((), device=device)
        self.first_bad = torch.full((), -1, device=device)
        self.history: dict[str, list[float | None]] = {"loss": []}
        self.logged: dict[str, Tensor] = {}
        self.curve: list[dict[str, Any]] = []
        self.seconds = self.train_seconds = 0.0
        self.passes = 0
        self.attempts: list[dict[str, Any]] = []
        state, damaged = checkpoint.load(self.path)
        if state is not None:
            self._restore(state)
        passed = {"damaged": damaged} if damaged else {}
        self.attempts.append({"epoch": self.epoch, "step": self.step, "ended": "lost"} | passed)
        self.cached = self._cache() if self._fixed() else None

    def _groups(self) -> list[dict[str, Any]]:
        """Returns what the optimiser holds, by the method's rates; every other parameter is frozen."""
        groups: dict[str, dict[str, Any]] = {
            prefix: {"params": [], "rate": rate, "weight_decay": decay * self.recipe.weight_decay}
            for prefix, (rate, decay) in self.recipe.method.trains.items()
        }
        for name, parameter in self.net.named_parameters():
            prefix = max((p for p in groups if name.startswith(p)), key=len, default=None)
            parameter.requires_grad_(prefix is not None)
            if prefix is not None:
                groups[prefix]["params"].append(parameter)
        return list(groups.values())

    def _fixed(self) -> bool:
        """Returns whether an image gives the same features in every step, so that they are computed once."""
        recipe = self.recipe
        below = [*self.net.trunk.parameters(), *self.net.branches.parameters()]
        moving = recipe.method.adapts or any(parameter.requires_grad for parameter in below)
        return not (moving or recipe.crop or recipe.flip or recipe.method.streams)

    def _cache(self) -> Tensor:
        """Returns the features of all training images in every branch, (N, branches, D)."""
        self.net.eval()
        with torch.no_grad(), self.cast():
            parts = [
                torch.stack(self.net.features(augment.as_input(batch.to(self.device))), dim=1)
                for batch in torch.split(torch.from_numpy(self.images.train_images), TEST_BATCH)
            ]
        return torch.cat(parts)

    @property
    def path(self) -> Path:
        """Returns where the checkpoint lies while the run is under way."""
        return self.out / f"{self.recipe.key()}.ckpt"

    @property
    def done(self) -> bool:
        """Returns whether the last epoch is over or the run has diverged."""
        return self.bad is not None or self.epoch == self.recipe.epochs

    def start_epoch(self) -> None:
        """Draws all random numbers of the epoch on the CPU and copies them to the device."""
        recipe, epoch = self.recipe, self.epoch
        method = recipe.method

        def rng(stream: str) -> np.random.Generator:
            return samplers.generator(recipe.seed, stream, epoch)

        self.drawn: dict[str, tuple[Tensor, ...]] = {}
        for name, gamma in method.draws(epoch / recipe.epochs):
            if gamma is None:
                index = samplers.uniform(rng(name), len(self.labels), self.total)
            else:
                index = samplers.reverse(rng(name), self.counts, gamma, self.total)
            corner = rng(f"{name}/crop").integers(0, 2 * recipe.crop + 1, (2, self.total))
            flip = rng(f"{name}/flip").random(self.total) < (0.5 if recipe.flip else 0.0)
            self.drawn[name] = tuple(torch.from_numpy(a).to(self.device) for a in (index, *corner, flip))
        self.streams = {
            name: torch.from_numpy(stream(rng(name), self.steps, recipe.batch)).float().to(self.device)
            for name, stream in method.streams.items()
        }
        moments = [(epoch * self.steps + step + 0.5) / (recipe.epochs * self.steps) for step in range(self.steps)]
        rate = {"base": recipe.lr, "warmup": recipe.warmup, "milestones": recipe.milestones, "factor": recipe.lr_decay}
        rate["schedule"] = recipe.schedule
        self.rates = [learning_rate(t, **rate) for t in moments]  # type: ignore[arg-type]
        self.t, self.lr = (torch.tensor(values, device=self.device) for values in (moments, self.rates))
        self.epoch_t = torch.tensor(epoch / recipe.epochs, device=self.device)
        self.class_counts = torch.from_numpy(self.counts).float().to(self.device)
        for module in self.net.modules():  # the whole first, then its parts: what holds nothing trained stays as it is
            module.train(method.adapts or any(parameter.requires_grad for parameter in module.parameters()))
        self.begun = time.monotonic()

    def train_step(self) -> None:
        """Takes one batch per draw, one loss, one step of the optimiser; nothing is read back from the device."""
        here = slice(self.step * self.recipe.batch, min((self.step + 1) * self.recipe.batch, self.total))
        batches = {}
        for name, (index, top, left, flip) in self.drawn.items():
            chosen = index[here]
            if self.cached is None:
                seen = augment.crop_flip(self.padded, chosen, top[here], left[here], flip[here], self.recipe.crop)
            else:
                seen = self.cached[chosen]
            batches[name] = Batch(seen, self.labels[chosen])
        size = here.stop - here.start
        numbers = {name: values[self.step] for name, values in self.streams.items()}
        drawn = {name: value[:size] if value.ndim else value for name, value in numbers.items()}
        at = At(self.t[self.step], self.epoch_t, self.lr[self.step], self.class_counts, drawn, self._log)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * self.rates[self.step]
        with self.cast():
            loss = self.recipe.method.loss(self.net if self.cached is None else self.net.classify, batches, at)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        loss = loss.detach()
        self.loss_sum += loss
        fresh = (self.first_bad < 0) & ~torch.isfinite(loss)
        self.first_bad = torch.where(fresh, self.step, self.first_bad)
        self.step += 1
        self.passes += size * len(self.recipe.spec.branches)

    def finish_epoch(self, eval_every: int) -> None:
        """Reads the epoch's loss, ends the run if it was not finite, tests it where the curve wants a point."""
        mean, first_bad = (self.loss_sum / self.steps).item(), int(self.first_bad.item())
        self.train_seconds += time.monotonic() - self.begun
        if first_bad >= 0:
            self.bad = {"epoch": self.epoch, "step": first_bad}
            return
        means = {name: (pair[0] / pair[1]).item() for name, pair in self.logged.items()} | {"loss": mean}
        # The last step can break the network after the last loss was taken, and running statistics show in no loss.
        if not all(map(math.isfinite, means.values())) or not self._whole():
            self.bad = {"epoch": self.epoch, "step": self.steps - 1}
            return
        for name in dict.fromkeys([*self.history, *means]):
            self.history.setdefault(name, [None] * self.epoch).append(means.get(name))
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum.zero_()
        self.logged = {}
        if self.epoch % eval_every == 0 or self.done:
            self.logits = self.predict()
            if not np.isfinite(self.logits[0]).all():
                self.bad = {"epoch": self.epoch - 1, "step": self.steps - 1}
                return
            right = self.logits[0].argmax(axis=1) == self.images.test_labels
            self.curve.append({"epoch": self.epoch, "all": float(right.mean())})

    def _whole(self) -> bool:
        """Returns whether every weight and every running statistic is finite."""
        return bool(torch.stack([value.isfinite().all() for value in self.net.state_dict().values()]).all().item())

    def _log(self, name: str, value: Tensor) -> None:
        """Adds a scalar to the epoch's sum of that name, and one to how many there are."""
        both = torch.stack([value.detach().float(), torch.ones((), device=self.device)])
        self.logged[name] = self.logged.get(name, 0) + both

    def predict(self) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
        """Returns the logits of all test images, (n, K) float64: the combined ones and each branch's."""
        self.net.eval()
        parts = []
        with torch.inference_mode(), self.cast():
            for batch in torch.split(torch.from_numpy(self.images.test_images), TEST_BATCH):
                combined, branches = self.recipe.method.logits(self.net, augment.as_input(batch.to(self.device)))
                parts.append(torch.stack([combined, *branches]).float().cpu())
        logits = torch.cat(parts, dim=1).double().numpy()
        return logits[0], list(logits[1:])

    def cast(self) -> torch.autocast:
        """Returns the context in which the network computes in bf16, or does nothing at fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def save(self, ended: str = "lost") -> None:
        """Writes the checkpoint; `ended` is how this attempt ends unless a later checkpoint says otherwise."""
        # Never a broken network over the last good one.
        if self.done or self.first_bad.item() >= 0 or not self._whole():
            return
        self.attempts[-1]["ended"] = ended
        recipe = self.recipe
        stands = {"key": recipe.key(), "epoch": self.epoch, "epochs": recipe.epochs, "step": self.step}
        stands |= {"steps": self.steps, "attempts": len(self.attempts), "ended": ended}
        checkpoint.save(self.path, self._state(), stands)
        self.saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        """Returns all that decides how the run goes on, as tensors and builtins."""
        now = time.monotonic()
        state = {
            "key": self.recipe.key(),
            "precision": self.precision,
            "data": self.images.digest,
            "parents": self.parents,
            "net": self.net.state_dict(),
            "momentum": [self.optimiser.state[p].get("momentum_buffer") for p in self.net.parameters()],
            "loss_sum": self.loss_sum,
            "logged": self.logged,
            "first_bad": self.first_bad,
            "seconds": self.seconds + now - self.started,
            "train_seconds": self.train_seconds + (now - self.begun if self.step else 0.0),
        }
        return state | {name: getattr(self, name) for name in _PLAIN}

    def _restore(self, state: dict[str, Any]) -> None:
        odd = state.keys() ^ self._state().keys()
        if odd or state["net"].keys() != self.net.state_dict().keys():
            raise DamagedError(
                f"{self.path} was written by another version of ltrepro: {', '.join(sorted(odd)) or 'other weights'}",
                "allowed: the version that began a run goes on with it",
                "it is left as it is; move it away to start the run again",
            )
        here = {
            "key": self.recipe.key(),
            "precision": self.precision,
            "data": self.images.digest,
            "parents": self.parents,
        }
        for name, now in here.items():
            if state[name] != now:
                raise RequestError(
                    f"{self.path} was begun with {name} {state[name]}, this process would go on with {now}",
                    "allowed: going on with the device, the images and the parent's weights it was begun with",
                    "choose them again with --device and --data-root, or move the checkpoint away to start anew",
                )
        self.net.load_state_dict(state["net"])
        for parameter, momentum in zip(self.net.parameters(), state["momentum"], strict=True):
            if momentum is not None:
                self.optimiser.state[parameter]["momentum_buffer"] = momentum.to(parameter.device).clone()
        self.loss_sum, self.first_bad = state["loss_sum"].to(self.device), state["first_bad"].to(self.device)
        self.logged = {name: pair.to(self.device) for name, pair in state["logged"].items()}
        for name in (*_PLAIN, "seconds", "train_seconds"):
            setattr(self, name, state[name])

    def publish(self) -> Run:
        """Writes the final weights and the run file, sweeps the checkpoint away, and returns the run.

        A run that has been published in the meantime stays as it is, and is what comes back; weights that it lacks are
        put beside it if these are the same.
        """
        there = self.out / f"{self.recipe.key()}.json"
        if there.exists():
            return self._restored(Run.read(there))
        self.attempts[-1]["ended"] = "done" if self.bad is None else "diverged"
        result = weights = None
        if self.bad is None:
            result = self._result()
            content, weights = self._weights()
            files.write(self.out / weights["file"], content)
        run = Run(
            recipe=self.recipe,
            status="done" if self.bad is None else "diverged",
            result=result,
            diverged=self.bad,
            curve=self.curve,
            history=self.history,
            split={
                "digest": self.images.split.digest,
                "counts": self.counts.tolist(),
                "class_names": list(self.images.class_names),
            },
            parents=self.parents,
            data_digest=self.images.digest,
            weights=weights,
            seconds=round(self.seconds + time.monotonic() - self.started, 3),
            images_per_second=round(self.passes / self.train_seconds, 1),
            device=provenance.device_words(self.device),
            precision=self.precision,
            versions=provenance.versions(),
            commit=provenance.commit(),
            attempts=self.attempts,
            command=provenance.command(),
            threads=torch.get_num_threads() if self.device.type == "cpu" else None,
            determinism=provenance.determinism(self.device),
        ).publish(self.out)
        checkpoint.sweep(self.path)
        return run

    def _weights(self) -> tuple[bytes, dict[str, str]]:
        """Returns the final weights as they are stored, and their file's name and the SHA-256 of the tensors."""
        weights = dict(self.net.cpu().state_dict())  # a plain dict: torch's has the modules' names too
        return checkpoint.dump(weights), {
            "file": f"{self.recipe.key()}.pt",
            "sha256": checkpoint.tensor_digest(weights),
        }

    def _restored(self, run: Run) -> Run:
        if run.weights and not run.weights_path:
            content, weights = self._weights()
            if weights != run.weights:
                raise DamagedError(
                    f"{run.path} was trained again and came out otherwise: its weights are not to be had back",
                    "the same torch, device and threads give the same weights, others do not",
                    "move it away, with what was begun from it, and train it anew",
                )
            files.write(self.out / weights["file"], content)
        checkpoint.sweep(self.path)
        return run

    def _result(self) -> dict[str, Any]:
        labels, groups = self.images.test_labels, class_groups(self.counts)

        def scores(logits: np.ndarray[Any, Any]) -> dict[str, Any]:
            predicted = logits.argmax(axis=1)
            per_class = metrics.per_class_accuracy(predicted, labels, len(self.counts))
            return {"accuracy": metrics.accuracies(predicted, labels, groups), "per_class": per_class}

        combined, branches = self.logits
        names, bins = self.recipe.spec.branches, metrics.reliability(combined, labels)
        return scores(combined) | {
            "branches": {name: scores(logits) for name, logits in zip(names, branches, strict=True)},
            "best": max(self.curve, key=lambda point: point["all"]),
            "ece": metrics.calibration_error(bins),
            "reliability": {name: _or_null(values) for name, values in bins._asdict().items()},
        }


def _or_null(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


_PLAIN = ("epoch", "step", "history", "curve", "passes", "attempts")


def make_deterministic() -> None:
    """Makes torch choose algorithms that give the same bits every time on one model of GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def pick_device(name: str) -> torch.device:
    """Returns the device that `name` asks for; "auto" is cuda, else mps, else the CPU.

    Raises:
        RequestError: The name is unknown or the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there.get(name):
        usable = ", ".join(["auto", *(kind for kind, present in there.items() if present)])
        raise RequestError(f"device = {name!r}", f"allowed on this machine: {usable}")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """Returns what `precision` means on a device: "auto" is bf16 where the hardware has instructions for it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        gains = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we support
        gains = any(features.get(name) for name in ("avx512_bf16", "amx_bf16"))
    else:
        gains = False
    return "bf16" if gains else "fp32"
