"""The loop: what it records, what it refuses, lanes side by side, and a loss that is not finite."""

import dataclasses
import errno
import hashlib
import itertools
import json
import math
import sys
from collections import OrderedDict
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from conftest import ROWS

from lt_repro import methods
from lt_repro.data.images import Pool, select
from lt_repro.data.samplers import Reverse, Uniform, generator
from lt_repro.data.split import make_split
from lt_repro.errors import DamagedError, FailedError, LtReproError, RequestError
from lt_repro.methods.base import Batch, Method, Sampled
from lt_repro.methods.bbn import Bbn
from lt_repro.methods.cross_entropy import CrossEntropy
from lt_repro.methods.dbn_mix import DbnMix
from lt_repro.nets.batchnorm import BatchNorm
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.schedules import learning_rate
from lt_repro.store import checkpoint, files, provenance
from lt_repro.train import evaluate, publish
from lt_repro.train import state as state_module
from lt_repro.train.device import pick_precision
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState


def sha(run):
    return run.weights["sha256"]


def test_a_run_says_what_came_out(small, images, tmp_path):
    made = small(**ROWS["dbn+bm+ts"])
    run = fit(made, images, out=tmp_path, eval_every=2)
    assert run.status == "done"
    assert set(run.result["accuracy"]) == {"all", "few"}
    assert len(run.result["per_class"]) == 4
    assert set(run.result["branches"]) == {"conventional", "rebalancing"}
    assert [point["epoch"] for point in run.curve] == [2, 3]
    assert run.result["accuracy"]["all"] == run.curve[-1]["all"] == pytest.approx(np.mean(run.result["per_class"]))
    assert len(run.history["loss"]) == 3
    split = {"digest": images.split.digest, "counts": images.split.counts.tolist(), "class_names": list("abcd")}
    assert run.split == split
    assert run.parents == {}
    assert json.loads(run.path.read_text())["key"] == made.key()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{made.key()}.json", f"{made.key()}.pt"]


def test_it_learns(small, images, tmp_path):
    run = fit(small(epochs=25), images, out=tmp_path)
    assert run.accuracy() >= 0.7  # chance is 0.25
    assert run.history["loss"][-1] < 0.5 * run.history["loss"][0]


def test_it_does_not_wait_for_what_only_compiling_needs(small, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # so that importing it is an error
    assert fit(small(), images, out=tmp_path).status == "done"
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(ImportError):  # torch's own optimiser does import it
        torch.optim.SGD([weight], lr=0.1).step()


def test_evaluation_uses_the_running_statistics_and_leaves_them_alone(small, images, tmp_path, monkeypatch):
    lane = TrainState(small(**ROWS["dbn"]), images, tmp_path, torch.device("cpu"))
    lane.start_epoch()
    train_step(lane)
    before = {name: value.clone() for name, value in lane.net.state_dict().items()}
    whole = lane.predict().combined
    assert all(torch.equal(value, before[name]) for name, value in lane.net.state_dict().items())
    monkeypatch.setitem(evaluate.BATCH_PIXELS, "cpu", 3 * 8 * 8)
    np.testing.assert_allclose(lane.predict().combined, whole, rtol=1e-4, atol=1e-5)


def test_two_fits_are_the_same_and_two_seeds_are_not(small, images, tmp_path):
    runs = [fit(small(seed=s), images, out=tmp_path / name) for s, name in ((0, "a"), (0, "b"), (1, "c"))]
    assert sha(runs[0]) == sha(runs[1]) != sha(runs[2])
    assert runs[0].history == runs[1].history


def test_torchs_global_generator_is_left_alone(small, images, tmp_path):
    before = torch.random.get_rng_state()
    fit(small(), images, out=tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_same_bytes_from_a_pool_in_either_order(small, pool, tmp_path):
    order = np.argsort(pool.train_labels, kind="stable")
    tested = np.argsort(pool.test_labels, kind="stable")
    by_class = dataclasses.replace(
        pool,
        train_images=pool.train_images[order],
        train_labels=pool.train_labels[order],
        test_images=pool.test_images[tested],
        test_labels=pool.test_labels[tested],
    )
    runs = []
    for name, source in {"file order": pool, "by class": by_class}.items():
        images = select(source, make_split(source.train_labels, ratio=4, name=pool.name))
        runs.append(fit(small(**ROWS["dbn+bm"]), images, out=tmp_path / name))
    assert sha(runs[0]) == sha(runs[1])
    assert runs[0].data_digest == runs[1].data_digest


def test_epoch_length_set_and_balanced(small, images, tmp_path):
    counts = images.split.counts
    cpu = torch.device("cpu")
    of_set, balanced = (
        TrainState(small(), images, tmp_path, cpu),
        TrainState(small(epoch_images="balanced"), images, tmp_path, cpu),
    )
    assert of_set.steps == math.ceil(counts.sum() / 8)
    assert balanced.steps == math.ceil(4 * counts.max() / 8)
    for state, total in ((of_set, counts.sum()), (balanced, 4 * counts.max())):
        state.start_epoch()
        assert len(state.inputs.drawn[0].chosen) == total


@pytest.mark.parametrize("row", ["sbn+mixup", "dbn+bm+ts"])
def test_with_batchnorm_in_parts_the_short_batch_of_an_epoch_is_dropped(row, small, images, tmp_path):
    """Of the 26 images three whole batches of 8, of every sampler and in every epoch; all 26 without parts."""
    assert len(images.train_images) == 26
    sizes, runs = {}, {}

    def watch(state):
        if state.step:
            sizes.setdefault(state.recipe.bn_parts, []).append(
                [len(inputs.chosen[8 * state.step - 8 : 8 * state.step]) for inputs in state.inputs.drawn]
            )

    for parts in (1, 2):
        runs[parts] = fit(small(bn_parts=parts, **ROWS[row]), images, out=tmp_path, watch=watch)
    batches = 2 if row == "dbn+bm+ts" else 1
    assert sizes[1] == [[8] * batches, [8] * batches, [8] * batches, [2] * batches] * 3
    assert sizes[2] == [[8] * batches] * 9
    assert [len(run.history["loss"]) for run in runs.values()] == [3, 3]
    assert sha(runs[1]) != sha(runs[2])


def test_whole_batches_of_an_epoch_are_of_different_images_and_counted(small, images, tmp_path):
    state = TrainState(small(bn_parts=4, **ROWS["dbn+bm"]), images, tmp_path, torch.device("cpu"))
    assert {module.parts for module in state.net.modules() if isinstance(module, BatchNorm)} == {4}
    assert state.steps == 3
    state.start_epoch()
    drawn = [inputs.chosen for inputs in state.inputs.drawn]
    assert [len(chosen) for chosen in drawn] == [24, 24]
    assert len(set(drawn[0].tolist())) == 24
    while state.step < state.steps:
        train_step(state)
    assert state.images_passed == 2 * 24
    limited = small(bn_parts=2, epoch_steps=2)
    assert TrainState(limited, images, tmp_path, torch.device("cpu")).steps == 2
    assert TrainState(limited.replace(epoch_steps=9), images, tmp_path, torch.device("cpu")).steps == 3
    balanced = small(bn_parts=2, epoch_images="balanced", batch=10)
    assert TrainState(balanced, images, tmp_path, torch.device("cpu")).steps == 4  # of 4 x 12 images


def test_parts_of_batchnorm_decide_what_is_trained_and_not_how_it_is_tested(small, images, tmp_path):
    """On the same 26 images in one batch the weights differ; the same weights predict the same."""
    pair = [small(batch=26, bn_parts=parts) for parts in (1, 2)]
    first, second = (fit(made, images, out=tmp_path) for made in pair)
    assert first.history["loss"][0] != second.history["loss"][0]
    whole, halved = (TrainState(made, images, tmp_path, torch.device("cpu")) for made in pair)
    halved.net.load_state_dict(whole.net.state_dict())
    np.testing.assert_array_equal(whole.predict().combined, halved.predict().combined)


def test_an_epoch_without_a_whole_batch_is_refused(small, images, tmp_path):
    assert TrainState(small(batch=32), images, tmp_path, torch.device("cpu")).steps == 1
    with pytest.raises(RequestError) as caught:
        fit(small(batch=32, bn_parts=2), images, out=tmp_path)
    assert str(caught.value).splitlines() == [
        "26 training images with batch = 32 and bn_parts > 1",
        "allowed: at least one whole batch an epoch: with bn_parts > 1 the last short one is dropped",
        "use a smaller batch, or bn_parts = 1",
    ]


def test_weights_and_momentum_stay_in_fp32_under_bf16(small, images, tmp_path):
    lane = TrainState(small(precision="bf16", **ROWS["dbn+bm+ts"]), images, tmp_path, torch.device("cpu"))
    lane.start_epoch()
    train_step(lane)
    states = lane.optimizer.state.values()
    assert {p.dtype for p in lane.net.parameters()} | {s["momentum_buffer"].dtype for s in states} == {torch.float32}
    assert lane.loss_sum.dtype == torch.float32
    with lane.autocast():
        assert lane.net(torch.rand(2, 1, 8, 8))[0].dtype == torch.bfloat16


@pytest.fixture
def registered(monkeypatch):
    """A method of the test's own, with a stage switch, whose loss is infinite at one step."""

    @dataclasses.dataclass(frozen=True)
    class Breaking(Method):
        title: ClassVar[str] = "breaks"
        at_fraction: float = 2.0
        kind: Literal["inf", "nan"] = "nan"

        @classmethod
        def name(cls):
            return "breaking"

        def samplers(self, progress):
            return (Sampled("uniform", Uniform()) if progress < 0.5 else Sampled("reverse", Reverse(math.inf)),)

        def loss(self, net, batches, ctx):
            (batch,) = batches.values()
            loss = torch.nn.functional.cross_entropy(net(batch.images)[0].float(), batch.labels)
            return loss + torch.where(ctx.progress > self.at_fraction, float(self.kind), 0.0)

    monkeypatch.setitem(methods.METHODS, "breaking", Breaking)
    return "breaking"


def breaking(small, registered, **fields):
    made = small()
    return dataclasses.replace(made, method=methods.METHODS[registered](**fields))


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize(("fraction", "epoch", "step"), [(0.0, 0, 0), (0.45, 1, 1), (0.95, 2, 3)])
def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(
    kind, fraction, epoch, step, small, registered, images, tmp_path
):
    made = breaking(small, registered, at_fraction=fraction, kind=kind)
    run = fit(made, images, out=tmp_path)
    assert TrainState(made, images, tmp_path, torch.device("cpu")).steps == 4
    assert run.status == "diverged"
    assert run.diverged == {"epoch": epoch, "step": step}
    assert run.result is None
    assert run.weights is None
    assert run.accuracy() is None
    assert len(run.history["loss"]) == epoch
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_stage_switch_changes_what_is_drawn(small, registered, images, tmp_path):
    lane = TrainState(breaking(small, registered), images, tmp_path, torch.device("cpu"))
    drawn = []
    for lane.epoch in range(3):
        lane.start_epoch()
        drawn.append([stream.sampled.name for stream in lane.inputs.drawn])
    assert drawn == [["uniform"], ["uniform"], ["reverse"]]


def flipped(stored):
    middle = len(stored) // 2
    return stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :]


def swapped(stored):
    """Another run's checkpoint, whole, under this run's name."""
    return swapped.other


DAMAGES = {
    "flipped": flipped,
    "cut": lambda stored: stored[:-100],
    "empty": lambda stored: b"",
    "rubbish": lambda stored: b"x" * 999,
    "zeroed page": lambda stored: stored[:4096] + bytes(4096) + stored[8192:],
    "swapped": swapped,
}


def saved_lane(made, images, out, steps=(1, 2)):
    """Trains a little and leaves two checkpoints: after the first and after the last of `steps` epochs."""
    lane = TrainState(made, images, out, torch.device("cpu"))
    for epochs in steps:
        while lane.epoch < epochs:
            lane.start_epoch()
            while lane.step < lane.steps:
                train_step(lane)
            lane.finish_epoch(10)
        lane.save()
    return lane


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_the_run_file_says_so(damage, small, images, tmp_path):
    made = small(**ROWS["dbn+bm"])
    straight = fit(made, images, out=tmp_path / "straight", device="cpu")
    swapped.other = saved_lane(small(seed=5), images, tmp_path / "other").path.read_bytes()
    lane = saved_lane(made, images, tmp_path / "cut")
    before = lane.path.read_bytes()
    lane.path.write_bytes(damage(before))
    assert lane.path.read_bytes() != before
    run = fit(made, images, out=tmp_path / "cut", device="cpu")
    assert sha(run) == sha(straight)
    assert run.result == straight.result
    damaged = {"epoch": 1, "step": 0, "ended": "done", "damaged": [lane.path.name]}
    assert {name: run.attempts[-1][name] for name in damaged} == damaged
    assert {path.suffix for path in (tmp_path / "cut").iterdir()} == {".json", ".pt"}


def continued(small, images, out, monkeypatch, name, change):
    """A run whose second attempt has another origin."""
    saved_lane(small(), images, out)
    monkeypatch.setattr(provenance, name, change)
    return fit(small(), images, out=out, device="cpu")


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("versions", {"torch": "A"}, "torch "),
        ("commit", "0123456789abcdef+", " then 01234567+"),
        ("device_words", "cpu (x86_64 AVX512, 2 threads)", "device cpu ("),
        ("determinism", "B", "determinism A then B"),
    ],
)
def test_a_run_that_was_continued_elsewhere_has_every_origin_and_level_c(
    name, other, words, small, images, tmp_path, monkeypatch
):
    default = getattr(provenance, name)
    run = continued(small, images, tmp_path, monkeypatch, name, lambda *_: other)
    first, last = (
        [attempt[field] for field in ("versions", "commit", "device", "threads", "determinism")]
        for attempt in run.attempts
    )
    assert run.determinism == "C"
    assert first != last
    assert last[:4] == [run.versions, run.commit, run.device, run.threads]
    assert words in provenance.changes_words(run.attempts)
    assert default(*[torch.device("cpu")] * (name in ("device_words", "determinism"))) in first


def test_a_run_that_was_continued_with_other_threads_has_level_c(small, images, tmp_path):
    saved_lane(small(), images, tmp_path)
    torch.set_num_threads(2)
    run = fit(small(), images, out=tmp_path, device="cpu")
    assert ([attempt["threads"] for attempt in run.attempts], run.determinism) == ([1, 2], "C")
    assert "1 thread) then cpu (" in provenance.changes_words(run.attempts)


def test_a_run_that_was_continued_in_the_same_place_keeps_its_level(small, images, tmp_path):
    saved_lane(small(), images, tmp_path)
    run = fit(small(), images, out=tmp_path, device="cpu")
    assert (len(run.attempts), run.determinism, provenance.changes(run.attempts)) == (2, "A", {})


def test_an_attempt_without_an_origin_is_unknown_only_beside_one_with(small, images, tmp_path):
    lane = saved_lane(small(), images, tmp_path)
    place = {name: lane.attempts[0][name] for name in ("epoch", "step", "ended")}  # as an earlier version stored it
    lane.attempts[:] = [place]
    lane.save()
    run = fit(small(), images, out=tmp_path, device="cpu")
    assert run.determinism == "C"
    assert "determinism unknown then A" in provenance.changes_words(run.attempts)
    assert provenance.changes([place, place]) == {}


def test_a_damaged_pair_falls_back_to_the_start(small, images, tmp_path):
    straight = fit(small(), images, out=tmp_path / "straight", device="cpu")
    lane = saved_lane(small(), images, tmp_path / "cut")
    names = sorted(path.name for path in (tmp_path / "cut").glob("*.ckpt"))
    assert len(names) == 2
    for name in names:
        (tmp_path / "cut" / name).write_bytes(flipped((tmp_path / "cut" / name).read_bytes()))
    run = fit(small(), images, out=tmp_path / "cut", device="cpu")
    assert sha(run) == sha(straight)
    (attempt,) = run.attempts
    assert (attempt["epoch"], sorted(attempt["damaged"])) == (0, names)
    assert lane.path.name in names


def test_a_damaged_checkpoint_never_takes_the_place_of_a_good_one(small, images, tmp_path):
    lane = saved_lane(small(), images, tmp_path)
    lane.path.write_bytes(b"rubbish")
    again = TrainState(small(), images, tmp_path, torch.device("cpu"))
    assert again.epoch == 1
    again.save()
    again.save()
    assert [checkpoint.where(path)["epoch"] for path in sorted(tmp_path.glob("*.ckpt"))] == [1, 1]


def test_a_missing_or_unknown_key_is_an_error(small, images, tmp_path):
    lane = saved_lane(small(), images, tmp_path)
    position = checkpoint.where(lane.path)
    for unexpected in ({k: v for k, v in lane._to_save().items() if k != "momentum"}, lane._to_save() | {"swa": 1}):
        checkpoint.save(lane.path, unexpected, position)
        with pytest.raises(DamagedError, match=r"momentum|swa"):
            TrainState(small(), images, tmp_path, torch.device("cpu"))
    weights = lane._to_save()
    weights["net"] = weights["net"] | {"aux.extra": torch.zeros(1)}
    checkpoint.save(lane.path, weights, position)
    with pytest.raises(DamagedError, match="other weights"):
        TrainState(small(), images, tmp_path, torch.device("cpu"))


def test_long_epochs_are_saved_inside(small, images, tmp_path):
    seen = []

    def watch(lane):
        if lane.path.exists():
            position = checkpoint.where(lane.path)
            seen.append((position["epoch"], position["step"]))

    fit(small(), images, out=tmp_path, device="cpu", save_every=1e9, save_within=0.0, watch=watch)
    assert {(0, 1), (0, 2), (1, 1), (2, 3)} <= set(seen)


def test_a_resume_on_other_images_is_refused(small, pool, images, tmp_path):
    TrainState(small(), images, tmp_path, torch.device("cpu")).save()
    other = dataclasses.replace(pool, train_images=255 - pool.train_images)
    with pytest.raises(RequestError, match="has data="):
        fit(small(), select(other, images.split), out=tmp_path)


def test_weights_that_break_in_the_last_step_end_the_run_as_diverged(small, images, tmp_path):
    def spoil(lane):
        if lane.epoch == 2 and lane.step == lane.steps:
            torch.nn.init.constant_(lane.net.heads[0].weight, math.nan)

    run = fit(small(), images, out=tmp_path, watch=spoil)
    assert (run.status, run.diverged, run.curve) == ("diverged", {"epoch": 2, "step": 3}, [])
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_a_broken_network_is_never_saved_over_a_good_one(small, images, tmp_path):
    lane = TrainState(small(), images, tmp_path, torch.device("cpu"))
    lane.save()
    before = lane.path.read_bytes()
    lane.first_nonfinite.fill_(2)
    lane.save()
    assert lane.path.read_bytes() == before


def test_images_per_second_counts_images_through_the_network(small, images, tmp_path):
    passes = {}
    parent = fit(small(**ROWS["dbn"]), images, out=tmp_path).recipe
    rows = {label: small(**ROWS[label]) for label in ("sbn", "sbn+bm", "dbn", "dbn+bm")}
    rows["crt"] = recipe("made_up", "crt", parents={"features": parent}, batch=8)
    for label, made in rows.items():
        lane = TrainState(made, images, tmp_path, torch.device("cpu"))
        lane.predict()
        lane.start_epoch()
        train_step(lane)
        passes[label] = lane.images_passed
    assert passes == {"sbn": 8, "sbn+bm": 8, "dbn": 16, "dbn+bm": 16, "crt": 8}


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_loop_applies_what_the_recipe_says(small, images, tmp_path, nesterov):
    """Two steps against SGD written out, at the rates of the schedule, on the draws of this epoch."""
    moves = {"momentum": 0.7, "nesterov": nesterov}
    made = small(branches=2, gamma=2.0, weight_decay=0.01, warmup=0.5, flip=True, seed=5, **moves)
    lane = TrainState(made, images, tmp_path, torch.device("cpu"))
    counts, total = images.split.counts, images.split.counts.sum()
    for lane.epoch in (1, 0):
        lane.start_epoch()
        uniform, reverse = lane.inputs.drawn
        index = Reverse(2.0).indices(generator(5, "reverse", lane.epoch), counts, total)
        assert reverse.chosen.tolist() == index.tolist()
        order = Uniform().indices(generator(5, "uniform", lane.epoch), counts, total)
        assert uniform.chosen.tolist() == order.tolist()
    flip = uniform.flip
    assert 0 < flip.sum() < total
    rates = [
        learning_rate((step + 0.5) / (3 * lane.steps), base=0.1, warmup=0.5, milestones=(0.6, 0.8), factor=0.1)
        for step in range(lane.steps)
    ]
    torch.testing.assert_close(lane.inputs.lr, torch.tensor(rates), rtol=0, atol=0)
    weight = lane.net.heads[1].weight
    velocity = torch.zeros_like(weight)
    for step in range(2):
        before = weight.detach().clone()
        train_step(lane)
        gradient = weight.grad + 0.01 * before
        velocity = 0.7 * velocity + gradient
        moved = gradient + 0.7 * velocity if nesterov else velocity
        torch.testing.assert_close(weight.detach(), before - rates[step] * moved)
    assert not torch.equal(uniform.top, reverse.top)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("row", ["sbn", "dbn+bm+ts"])
def test_the_losses_of_eight_steps_are_those_of_a_float64_loop(small, images, tmp_path, precision, tolerance, row):
    """Relative to the first loss; the reference has plain SGD written out, on the same draws."""
    recipe = small(**ROWS[row], precision=precision, warmup=0.0, weight_decay=0.01, lr=0.01)
    lane, reference = (TrainState(recipe, images, tmp_path, torch.device("cpu")) for _ in range(2))
    net = reference.net.double()
    velocity = {name: torch.zeros_like(weight) for name, weight in net.named_parameters()}
    losses, expected, epochs = [], [], -(-8 // lane.steps)
    for lane.epoch in range(epochs):
        reference.epoch = lane.epoch
        lane.start_epoch()
        reference.start_epoch()
        lane.step = reference.step = 0
        while lane.step < lane.steps:
            lane.loss_sum.zero_()
            train_step(lane)
            losses.append(lane.loss_sum.item())
            batches, ctx = reference.load_batches()
            reference.step += 1
            batches = {name: Batch(batch.images.double(), batch.labels) for name, batch in batches.items()}
            random = {name: value.double() for name, value in ctx.random.items()}
            ctx = ctx._replace(random=random, class_counts=ctx.class_counts.double())
            loss = recipe.method.loss(net, batches, ctx)
            names, weights = zip(*net.named_parameters(), strict=True)
            for name, weight, gradient in zip(names, weights, torch.autograd.grad(loss, weights), strict=True):
                velocity[name] = recipe.momentum * velocity[name] + gradient + 0.01 * weight.detach()
                weight.data -= ctx.lr.item() * velocity[name]
            expected.append(loss.item())
    assert len(losses) >= 8
    assert expected[7] != pytest.approx(expected[0], rel=0.05)
    np.testing.assert_allclose(losses[:8], expected[:8], rtol=0, atol=tolerance * expected[0])


def test_a_disk_that_fills_up_is_a_failed_job_and_keeps_the_last_checkpoint(small, images, tmp_path, monkeypatch):
    whole = fit(small(), images, out=tmp_path / "whole")
    out = tmp_path / "full"

    def fill(lane):
        if lane.epoch == 2:
            monkeypatch.setattr(files, "write", full)

    def full(path, data, **_):
        raise files.cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))

    with pytest.raises(FailedError, match="No space left") as caught:
        fit(small(), images, out=out, save_every=0.0, watch=fill)
    assert (caught.value.exit_code, len(str(caught.value).splitlines())) == (1, 3)
    monkeypatch.undo()
    assert [path.suffix for path in out.iterdir()] == [".ckpt"]
    resumed = fit(small(), images, out=out)
    assert sha(resumed) == sha(whole)
    assert resumed.attempts[-1]["epoch"] == 1


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"crop": 9}, "crop = 9"), ({"crop": 10**6}, "crop"), ({"crop": 8, "crop_pad": "reflect"}, "0 to 7")],
)
def test_a_crop_larger_than_the_image_is_refused(settings, word, small, images, tmp_path):
    with pytest.raises(RequestError, match=word):
        fit(small(**settings), images, out=tmp_path)


def test_a_resume_that_would_change_the_precision_is_refused(small, images, tmp_path, monkeypatch):
    made = small(precision="auto")
    monkeypatch.setattr(state_module, "pick_precision", lambda name, device: "fp32")
    TrainState(made, images, tmp_path, torch.device("cpu")).save()
    monkeypatch.setattr(state_module, "pick_precision", lambda name, device: "bf16")
    with pytest.raises(RequestError, match="has precision=fp32, this run has bf16"):
        fit(made, images, out=tmp_path)


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_an_unknown_device_is_refused(device, small, images, tmp_path):
    with pytest.raises(RequestError, match="allowed on this machine: auto"):
        fit(small(), images, out=tmp_path, device=device)


def test_a_folder_that_cannot_be_written_is_found_before_training(small, images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RequestError, match="cannot write"):
        fit(small(), images, out=tmp_path / "file", watch=lambda lane: pytest.fail("it trained"))


def test_precision_auto_on_the_cpu_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    for features, expected in (({"avx512_bf16": True}, "bf16"), ({"avx512_bf16": False}, "fp32"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features, raising=False)
        assert pick_precision("auto", cpu) == expected
    assert pick_precision("bf16", cpu) == "bf16"


def test_grey_and_colour_pools_train(small, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 8)
    colour = rng.integers(0, 256, (16, 10, 8, 3), dtype=np.uint8)
    pool = Pool("colour", colour, labels, colour, labels, ("a", "b"), 0, None)
    images = select(pool, make_split(labels, ratio=2, name="colour"))
    made = dataclasses.replace(small(ratio=2.0, normalise="shared"), method=DbnMix(tscale=False))
    run = fit(made, images, out=tmp_path)
    assert run.status == "done"


# A run that starts from a parent


@pytest.fixture
def parent_and_make(small, images, tmp_path):
    """A dual-branch parent with its weights, and a function that makes recipes that start from it."""
    parent = small(**ROWS["dbn"])
    run = fit(parent, images, out=tmp_path)

    def make(method="crt", **settings):
        return recipe("made_up", method, **{"parents": {"features": parent}, "epochs": 3} | settings)

    return run, make


def weights_of(run):
    return torch.load(run.path.with_suffix(".pt"), weights_only=True)


def below(state):
    return {name: value for name, value in state.items() if not name.startswith("heads.")}


@pytest.mark.parametrize(
    "settings", [{}, {"crop": 0, "flip": False}, {"method": "dbn_mix", "frozen": True, **ROWS["dbn+bm+ts"]}], ids=str
)
def test_frozen_tensors_and_buffers_stay_bit_equal_and_the_heads_are_new(parent_and_make, images, tmp_path, settings):
    parent, make = parent_and_make
    run = fit(make(**settings), images, out=tmp_path)
    old, new = weights_of(parent), weights_of(run)
    assert len(below(new)) > 40
    assert any(name.endswith("running_mean") for name in below(new))
    assert new.keys() == old.keys()
    assert all(torch.equal(value, old[name]) for name, value in below(new).items())
    assert not any(torch.equal(new[name], old[name]) for name in new.keys() - below(new).keys())
    assert run.parents == {"features": {"key": parent.recipe.key(), "weights": parent.weights["sha256"]}}
    assert json.loads(run.path.read_text())["parents"] == run.parents


def test_fresh_heads_are_not_the_parents_and_differ_by_seed(parent_and_make, images, tmp_path):
    parent, make = parent_and_make
    recipes = [make(), make(seed=1), parent.recipe]  # the last: what the parent started from
    lanes = [TrainState(made, images, tmp_path, torch.device("cpu")) for made in recipes]
    heads = [weights_of(parent)["heads.0.weight"], *(lane.net.heads[0].weight for lane in lanes)]
    assert [made.seed for made in recipes] == [0, 1, 0]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(heads, 2))


def test_running_statistics_move_where_the_method_says_so_and_nothing_else_does(parent_and_make, images, tmp_path):
    parent, make = parent_and_make
    run = fit(make(bn="train"), images, out=tmp_path)
    old, new = below(weights_of(parent)), below(weights_of(run))
    moved = {name for name, value in new.items() if not torch.equal(value, old[name])}
    assert moved == {name for name in old if name.rpartition(".")[2].startswith(("running", "num_batches"))}


def test_the_optimiser_holds_what_the_method_trains_and_gradients_reach_nothing_else(parent_and_make, images, tmp_path):
    _, make = parent_and_make
    lane = TrainState(make(), images, tmp_path, torch.device("cpu"))
    lane.start_epoch()
    train_step(lane)
    held = {id(p) for group in lane.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in lane.net.heads.parameters()}
    assert {name for name, p in lane.net.named_parameters() if p.grad is not None} == {
        f"heads.{i}.{kind}" for i in range(2) for kind in ("weight", "bias")
    }


def test_rate_and_decay_factors_go_to_the_longest_name_that_fits(small, images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        CrossEntropy, "param_groups", {"branches.": (0.1, 0.0), "heads.": (1.0, 0.5), "branches.0.0.conv1": (2.0, 1.0)}
    )
    lane = TrainState(small(warmup=0.0), images, tmp_path, torch.device("cpu"))
    lane.start_epoch()
    train_step(lane)
    names = {id(p): name for name, p in lane.net.named_parameters()}
    for group in lane.optimizer.param_groups:
        held = [names[id(p)] for p in group["params"]]
        expected = {name.startswith("heads."): (0.1, 1e-4) for name in held if name.startswith("heads.")}
        if held == ["branches.0.0.conv1.weight"]:
            expected = {True: (0.2, 2e-4)}
        elif not expected:
            assert all(name.startswith("branches.0.") for name in held)
            expected = {True: (0.01, 0.0)}
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected[True])
    assert not lane.net.trunk[1].weight.requires_grad


def test_a_single_branch_goes_into_each_of_several(small, images, tmp_path):
    parent = small(**ROWS["sbn+mixup"])
    run = fit(parent, images, out=tmp_path)
    old = weights_of(run)
    made = recipe("made_up", parents={"features": parent}, frozen=True, epochs=1, **ROWS["dbn+bm"])
    new = weights_of(fit(made, images, out=tmp_path))
    for i in (0, 1):
        branch = {
            name.removeprefix(f"branches.{i}."): v for name, v in new.items() if name.startswith(f"branches.{i}.")
        }
        parent_branch = {
            name.removeprefix("branches.0."): v for name, v in old.items() if name.startswith("branches.0.")
        }
        assert branch.keys() == parent_branch.keys()
        assert all(torch.equal(value, parent_branch[name]) for name, value in branch.items())
    assert not torch.equal(new["heads.0.weight"], new["heads.1.weight"])


def test_heads_on_frozen_features_part_where_the_parent_does(small, images, tmp_path):
    parent = fit(small(**ROWS["dbn"], branch_at="layer3"), images, out=tmp_path)
    for made in (
        recipe("made_up", parents={"features": parent.recipe}, epochs=1),
        recipe("made_up", "crt", parents={"features": parent.recipe}, epochs=1),
    ):
        assert made.spec.split_at == "layer3"
        run = fit(made, images, out=tmp_path)
        assert all(torch.equal(value, weights_of(run)[name]) for name, value in below(weights_of(parent)).items())


def test_a_parent_is_looked_for_beside_and_what_is_wrong_with_it_is_said(parent_and_make, images, tmp_path):
    parent, make = parent_and_make
    elsewhere = tmp_path / "elsewhere"
    fit(make(), images, out=elsewhere, parents=[tmp_path])
    for name, damage in {
        "has not run": lambda: None,
        "is missing": lambda: (tmp_path / "b" / parent.path.name).write_bytes(parent.path.read_bytes()),
        "is damaged": lambda: (tmp_path / "b" / f"{parent.path.stem}.pt").write_bytes(b"PK\x03\x04"),
    }.items():
        (tmp_path / "b").mkdir(exist_ok=True)
        damage()
        with pytest.raises(LtReproError, match=name) as caught:
            fit(make(seed=1), images, out=tmp_path / "b")
        assert len(str(caught.value).splitlines()) <= 3
        assert parent.recipe.key() in str(caught.value)
    assert not list((tmp_path / "b").glob("*crt*"))


def test_a_resume_with_other_weights_of_the_parent_is_refused(parent_and_make, images, tmp_path):
    parent, make = parent_and_make
    lane = TrainState(make(), images, tmp_path, torch.device("cpu"))
    lane.save()
    weights = weights_of(parent) | {"trunk.2.weight": torch.ones(16)}
    parent.path.unlink()
    parent.path.with_suffix(".pt").write_bytes(checkpoint.dump(weights))
    sha256 = checkpoint.tensor_digest(weights)
    dataclasses.replace(parent, weights={"file": "x.pt", "sha256": sha256}).publish(tmp_path)
    with pytest.raises(RequestError, match="has parents="):
        fit(make(), images, out=tmp_path)


def test_the_digest_of_the_weights_is_of_tensors_and_their_names_alone(parent_and_make, images, tmp_path):
    parent, _ = parent_and_make
    lane = TrainState(parent.recipe, images, tmp_path / "new", torch.device("cpu"))
    content, before = publish.weights(lane)
    lane.net.add_module("empty", torch.nn.ModuleDict())
    assert publish.weights(lane) == (content, before)
    lane.net.trunk[0].register_buffer("more", torch.zeros(1))
    assert publish.weights(lane)[1] != before


def test_the_digest_of_tensors_covers_name_dtype_shape_and_bytes_and_no_container(tmp_path):
    plain = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(1)}
    expected = hashlib.sha256(b'["a","torch.int64",[]]\n' + (1).to_bytes(8, "little"))
    expected.update(b'["b","torch.float32",[2,3]]\n' + np.arange(6, dtype="<f4").tobytes())
    assert checkpoint.tensor_digest(plain) == expected.hexdigest()
    path = tmp_path / "weights.pt"
    torch.save(OrderedDict(reversed(plain.items())), path)
    assert path.read_bytes() != checkpoint.dump(plain)
    assert checkpoint.load_weights(path, expected.hexdigest()).keys() == plain.keys()
    shared = {"a": plain["a"]}
    others = [
        shared | {"c": plain["b"]},
        shared | {"b": plain["b"].T.reshape(2, 3)},
        shared | {"b": plain["b"].reshape(3, 2)},
        shared | {"b": plain["b"].double()},
        shared | {"b": plain["b"].view(torch.int32)},
        shared,
    ]
    digests = {checkpoint.tensor_digest(tensors) for tensors in (plain, *others)}
    assert len(digests) == len(others) + 1
    assert checkpoint.tensor_digest(shared | {"b": plain["b"].T.contiguous().T}) == expected.hexdigest()
    for wrong in ([1, 2], {"a": 1}, {"a": torch.zeros(2, device="meta")}, {1: torch.zeros(2)}):
        torch.save(wrong, path)
        with pytest.raises(DamagedError):
            checkpoint.load_weights(path, expected.hexdigest())


def test_a_parent_of_another_split_is_refused(parent_and_make, images, tmp_path):
    parent, make = parent_and_make
    parent.path.unlink()
    dataclasses.replace(parent, split=parent.split | {"digest": "0" * 64}).publish(tmp_path)
    with pytest.raises(RequestError, match="another split"):
        fit(make(), images, out=tmp_path)


def test_a_diverged_run_is_no_parent(small, images, tmp_path):
    parent = small(lr=1e3, momentum=0.99, weight_decay=1.0, epochs=20)
    run = fit(parent, images, out=tmp_path)
    assert run.status == "diverged"
    with pytest.raises(RequestError, match="diverged"):
        fit(recipe("made_up", "crt", parents={"features": parent}), images, out=tmp_path)


def test_the_rate_follows_half_a_cosine(small, images, tmp_path):
    lane = TrainState(small(schedule="cosine", warmup=0.0), images, tmp_path, torch.device("cpu"))
    rates = []
    for _ in range(3):
        lane.start_epoch()
        rates += lane.inputs.lr.tolist()
        lane.epoch += 1
    n = 3 * lane.steps
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * (i + 0.5) / n)) / 2 for i in range(n)])
    assert learning_rate(0.0, base=0.2, warmup=0, milestones=(0.5,), factor=0.1, schedule="cosine") == 0.2
    assert learning_rate(0.5, base=0.2, warmup=0, milestones=(0.5,), factor=0.1, schedule="cosine") == pytest.approx(
        0.1
    )
    assert learning_rate(1.0, base=0.2, warmup=0, milestones=(), factor=0.1, schedule="cosine") == pytest.approx(0.0)
    assert learning_rate(0.1, base=0.2, warmup=0.2, milestones=(), factor=0.1, schedule="cosine") == pytest.approx(
        0.1 * (1 + math.cos(0.1 * math.pi)) / 2
    )


def test_bbns_alpha_is_held_through_an_epoch(images, tmp_path, monkeypatch):
    seen = []
    plain = Bbn.loss
    monkeypatch.setattr(
        Bbn,
        "loss",
        lambda self, net, batches, ctx: seen.append(ctx.epoch_progress.item()) or plain(self, net, batches, ctx),
    )
    made = recipe("made_up", "bbn", ratio=4.0, net="resnet8", epochs=4, batch=8, crop=1, precision="fp32")
    fit(made, images, out=tmp_path)
    steps = len(seen) // 4
    assert seen == [epoch / 4 for epoch in range(4) for _ in range(steps)]
    assert steps > 1


# What a method draws


@dataclasses.dataclass(frozen=True)
class Drawing(Method):
    """A method that draws what its field says."""

    title: ClassVar[str] = "draws"
    what: str = "fine"

    @classmethod
    def name(cls):
        return "drawing"

    @property
    def random_inputs(self):
        numbers = {"uniform": lambda rng, steps, batch: rng.random(steps)}
        return numbers if self.what == "number" else {}

    def samplers(self, progress):
        more = {
            "twice": Sampled("uniform", Reverse(1.0)),
            "reserved": Sampled("init", Uniform()),
            "slash": Sampled("uniform/crop", Uniform()),
            "source": Sampled("meta", Uniform(), source="meta"),
            "late": Sampled("uniform", Uniform()) if progress else Sampled("second", Uniform()),
            "small": Sampled("small", Uniform(), batch=3),
        }
        return (Sampled("uniform", Uniform()), *([more[self.what]] if self.what in more else []))

    def loss(self, net, batches, ctx):
        return sum(net(batch.images)[0].float().square().mean() for batch in batches.values())


@pytest.mark.parametrize("what", ["twice", "number", "reserved", "slash", "late", "source"])
def test_draws_that_clash_or_lack_their_images_are_refused_before_training(what, small, images, tmp_path):
    made = dataclasses.replace(small(), method=Drawing(what))
    with pytest.raises(RequestError, match="without 'meta' images" if what == "source" else "under a reserved name"):
        TrainState(made, images, tmp_path, torch.device("cpu"))


def test_a_sampler_may_have_a_batch_size_and_images_of_its_own(small, images, tmp_path):
    made = dataclasses.replace(small(batch=8), method=Drawing("small"))
    state = TrainState(made, images, tmp_path, torch.device("cpu"))
    sizes = []
    state.start_epoch()
    for _ in range(state.steps):
        batches, _ = state.load_batches()
        sizes.append(tuple(len(batch.labels) for batch in batches.values()))
        state.step += 1
    total = len(images.train_labels)
    assert sizes == [(min(8, total - 8 * step), 3) for step in range(state.steps)]
    few = {"meta": (images.train_images[:4], images.train_labels[:4])}
    other = dataclasses.replace(small(), method=Drawing("source"))
    state = TrainState(other, dataclasses.replace(images, extra=few), tmp_path, torch.device("cpu"))
    state.start_epoch()
    batches, _ = state.load_batches()
    assert set(batches["meta"].labels.tolist()) == {0}


def test_auxiliary_modules_are_trained_only_where_they_are_named(small, images, tmp_path, monkeypatch):
    monkeypatch.setattr(Drawing, "aux_modules", lambda self, class_counts, spec: {"more": torch.nn.Linear(2, 2)})
    made = dataclasses.replace(small(), method=Drawing())
    for groups, held in (({"": (1.0, 1.0)}, False), ({"": (1.0, 1.0), "aux.more.": (0.5, 0.0)}, True)):
        monkeypatch.setattr(Drawing, "param_groups", groups)
        state = TrainState(made, images, tmp_path, torch.device("cpu"))
        assert all(parameter.requires_grad == held for parameter in state.net.aux.parameters())
        ids = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
        assert {id(p) in ids for p in state.net.aux.parameters()} == {held}


def test_a_teacher_is_frozen_in_evaluation_mode_and_in_no_checkpoint(small, images, tmp_path, monkeypatch):
    parent = small(seed=3)
    fit(parent, images, out=tmp_path)
    monkeypatch.setattr(Drawing, "parents", ("teacher",))
    monkeypatch.setitem(methods.METHODS, "drawing", Drawing)
    made = dataclasses.replace(small(), method=Drawing(), parents={"teacher": parent})
    seen = []

    def loss(self, net, batches, ctx):
        (teacher,) = ctx.teachers.values()
        seen.append((teacher.training, {p.requires_grad for p in teacher.parameters()}))
        return (net(batches["uniform"].images)[0] - teacher(batches["uniform"].images)[0]).float().square().mean()

    monkeypatch.setattr(Drawing, "loss", loss)
    state = TrainState(made, images, tmp_path, torch.device("cpu"))
    before = {name: value.clone() for name, value in state.teachers["teacher"].state_dict().items()}
    state.start_epoch()
    train_step(state)
    assert set(map(str, seen)) == {"(False, {False})"}
    assert all(torch.equal(value, before[name]) for name, value in state.teachers["teacher"].state_dict().items())
    assert not any("teacher" in name for name in state._to_save()["net"])
    assert state.images_passed == 8  # the teacher's passes are not the network's
