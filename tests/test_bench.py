"""The benchmark: its rival is a fair one, its arithmetic is right, and the command prints and stores it."""

import dataclasses
import json
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from lt_repro import fields
from lt_repro.bench import compare, costs, floor, growth, start, textbook
from lt_repro.bench.ours import Ours
from lt_repro.bench.turn import Turn
from lt_repro.data.images import images_of
from lt_repro.data.samplers import Uniform
from lt_repro.methods import METHODS
from lt_repro.methods.base import Method, Sampled
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.render.costs import rows
from lt_repro.store import provenance
from lt_repro.sweep import workers
from lt_repro.sweep.cost import COSTS
from lt_repro.train.loop import train_step


@pytest.fixture
def small_images(monkeypatch):
    """Few images, small batches, and quick floors; what is timed stays the same."""
    default, pool = compare.recipe, compare.random_pool(10, 20, 40)

    def recipe(branches=1, **changes):
        return default(branches, **{"batch": 8, "net": "resnet8", "ratio": 10.0, **changes})

    monkeypatch.setattr(compare, "recipe", recipe)
    monkeypatch.setattr(compare, "random_pool", lambda *_: pool)
    for module in (compare, costs):
        monkeypatch.setattr(module, "TESTED", 20)
    monkeypatch.setattr(compare, "AUGMENTED", {"ours": 256, "textbook": 128})
    monkeypatch.setattr(textbook, "WORKERS", 1)
    monkeypatch.setattr(floor, "COPIED", 1 << 20)
    monkeypatch.setitem(floor.MATRIX_SIZE, "cpu", 64)
    return images_of(recipe().subset, pool)


def flops(net, *batches):
    with FlopCounterMode(display=False) as counter:
        net(*batches)
    return counter.get_total_flops()


@pytest.mark.parametrize("branches", [1, 2])
def test_the_rival_does_the_same_arithmetic(branches):
    """As many operations and parameters as our network; BBN's classifier is the joint one."""
    spec = compare.recipe(branches).spec._replace(head="joint")
    ours = ResNet("resnet32", spec, 100, (0.5,) * 3, (0.2,) * 3)
    rival, x = textbook.TextbookNet(100, branches), torch.rand(2, 3, 32, 32)
    assert sum(p.numel() for p in rival.parameters()) == sum(p.numel() for p in ours.parameters())
    assert flops(rival, *[x] * branches) == flops(ours, [x] * branches)


def test_one_branch_of_the_rival_gives_our_logits():
    """With our weights and a normalised image."""
    ours = ResNet("resnet32", compare.recipe().spec, 100, (0.0,) * 3, (1.0,) * 3).eval()
    rival = textbook.TextbookNet(100, 1).eval()
    rival.load_state_dict(dict(zip(rival.state_dict(), list(ours.state_dict().values())[2:], strict=True)))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(rival(x), ours(x)[0])


def test_the_rivals_pairs_follow_the_reversed_distribution(small_images):
    """P_k is proportional to 1 / N_k, within four standard deviations."""
    pairs = textbook.PilImages(small_images.train_images, small_images.train_labels, True, pairs=True)
    torch.manual_seed(0)
    n = 1500
    drawn = np.bincount([pairs[i % len(pairs)][3] for i in range(n)], minlength=10) / n
    expected = 1 / small_images.split.counts
    expected = expected / expected.sum()
    assert (np.abs(drawn - expected) < 4 * np.sqrt(expected * (1 - expected) / n)).all()


def test_the_rivals_images_are_cropped_flipped_and_normalised(small_images):
    image, label = textbook.PilImages(small_images.train_images, small_images.train_labels, False)[3]
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    pixels = torch.from_numpy(small_images.train_images[3]) / 255
    torch.testing.assert_close(image, ((pixels - mean) / std).permute(2, 0, 1))
    assert label == small_images.train_labels[3]
    train = textbook.PilImages(small_images.train_images, small_images.train_labels, True)
    torch.manual_seed(0)
    assert len({tuple(train[3][0].flatten().tolist()) for _ in range(8)}) > 4


@pytest.mark.parametrize("branches", [1, 2])
def test_both_loops_train_on_what_they_say(small_images, branches):
    """Weights move, as many images pass as are counted, and the times add up to the wall clock."""
    ours = Ours(compare.recipe(branches), small_images, torch.device("cpu"))
    rival = textbook.Textbook(small_images, branches, torch.device("cpu"), 8)
    for contender, weight in ((ours, ours.state.net.heads[0].weight), (rival, rival.net.classifier.weight)):
        before, clock = weight.detach().clone(), time.perf_counter()
        turn = contender.turn(2, 20)
        assert sum((turn.start, turn.train, turn.test)) <= time.perf_counter() - clock
        assert (turn.images, turn.tested) == (16 * branches, 20)
        assert not torch.equal(weight, before)
    assert sum(len(group["params"]) for group in rival.optimizer.param_groups) == len(list(rival.net.parameters()))


def test_the_rate_of_an_epoch():
    turn = Turn(start=1.0, train=2.0, images=100, test=0.5, tested=50)
    assert turn.rate(1000, 200, None) == pytest.approx(1000 / (1 + 20))
    assert turn.rate(1000, 200, 1) == pytest.approx(1000 / (1 + 20 + 2))
    assert turn.rate(1000, 200, 10) == pytest.approx(1000 / (1 + 20 + 0.2))


def test_a_training_pass_costs_three_forward_passes():
    """Of every layer but the first, whose input needs no gradient."""
    net = ResNet("resnet32", compare.recipe().spec, 100, (0.5,) * 3, (0.2,) * 3).train()
    x = torch.rand(2, 3, 32, 32)
    forward, first = flops(net, x) / 2, 2 * 32 * 32 * 9 * 3 * 16
    assert floor.training_flops(net, x) == pytest.approx(3 * forward - first)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_parts_of_a_step_add_up_and_leave_the_loop_as_it_was(small_images):
    ours = Ours(compare.recipe(), small_images, torch.device("cpu"))
    clock = time.perf_counter()
    parts = ours.parts(3)
    assert 0 < 3 * sum(parts.values()) <= time.perf_counter() - clock
    assert all(part > 0 for part in parts.values())
    assert "load_batches" not in vars(ours.state)
    assert not ours.state.optimizer._optimizer_step_pre_hooks


def test_the_command_prints_and_gives_json(small_images, run, monkeypatch):
    monkeypatch.setattr(start, "measure", lambda *_: start.Start(0.3, 4.0, 10**9))
    monkeypatch.setattr(growth, "by_jobs", lambda steps: {"net": {"1 x 2": 100.0, "2 x 1": 110.0}})
    monkeypatch.setattr(growth, "CLASSES", (10,))
    monkeypatch.setattr(growth, "IMAGES", (1000,))
    words = ["bench", "--rounds", "2", "--steps", "1", "--device", "cpu"]
    code, out, err = run(*words, "--json", "--growth")
    assert code == 0, err
    result = json.loads(out)
    for name in ("ours single", "textbook single", "ours dual", "textbook dual"):
        rate = result["contenders"][name]
        assert 0 < rate["min"] <= rate["images_per_s"] <= rate["max"]
    assert {"single", "dual", "augment"} <= result["ratios"].keys()
    assert {"copy_gb_s", "matrix_tflop_s", "share"} <= result["floor"].keys()
    assert {"device", "threads"} <= result.keys()
    assert err.count("round 2 of 2") == 6
    monkeypatch.setattr(compare, "compare", lambda *_: {name: result[name] for name in result.keys() - {"growth"}})
    code, out, _ = run(*words)
    assert code == 0
    assert "| ours / textbook | ratio |" in out
    assert f"| ours dual | {result['contenders']['ours dual']['images_per_s']:,.0f} (" in out
    assert "classes" not in out


def test_a_process_of_its_own_starts_and_says_when(small_images, tmp_path, capsys):
    pool = compare.random_pool()
    names = ("train_images", "train_labels", "test_images", "test_labels")
    np.savez(tmp_path / "pool.npz", **{name: getattr(pool, name) for name in names})
    before = time.time()
    start.begin(str(tmp_path / "pool.npz"), "cpu", "1")
    result = json.loads(capsys.readouterr().out)
    assert before < result["first_step_at"] < time.time()
    assert result["peak_bytes"] > result["image_bytes"] == pool.train_images.nbytes + pool.test_images.nbytes


def test_wrong_precision_and_missing_torchvision_are_refused(run, monkeypatch):
    code, _, err = run("bench", "--precision", "fp8")
    assert (code, "allowed: auto, fp32 or bf16" in err) == (2, True)
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    code, _, err = run("bench", "--rounds", "1", "--steps", "1", "--device", "cpu")
    assert (code, "pip install torchvision" in err) == (2, True)


def test_jobs_that_fill_the_machine_keep_to_cores_of_their_own(monkeypatch):
    pinned = []
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {3, 1, 2, 0}, raising=False)
    monkeypatch.setattr(workers.os, "sched_setaffinity", lambda _, cores: pinned.append(list(cores)), raising=False)
    workers.pin(1, 2, 2)
    workers.pin(0, 4, 1)
    workers.pin(0, 2, 1)  # half of the machine: left to the system
    assert pinned == [[2, 3], [0]]


@pytest.mark.parametrize(("threads", "jobs"), [(1, 1), (2, 2), (16, 4)])
def test_a_queue_trains_one_run_a_core_up_to_four(monkeypatch, threads, jobs):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert workers.default_jobs(torch.device("cpu")) == jobs
    assert workers.default_jobs(torch.device("cuda")) == 1


# what a method costs


@dataclasses.dataclass(frozen=True)
class Late(Method):
    """From its switch on it also passes a batch of further images."""

    title: ClassVar[str] = "late"
    switch: float = 0.8

    def samplers(self, progress):
        further = Sampled("further", Uniform(), source="further")
        return Sampled("uniform", Uniform()), *([further] if progress >= self.switch else [])

    def loss(self, net, batches, ctx):
        passed = [cross_entropy(net(images)[0], labels) for images, labels in batches.values()]
        return torch.stack(passed).mean()


def entries(result, name):
    return [entry for entry in result["costs"] if entry["method"] == name]


def test_costs_are_those_of_the_work_that_a_method_does(small_images, trial):
    """Counts are exact; of a time, only that it was taken."""
    names = ("cross_entropy", "dbn_mix", "crt", "logit_adjustment", "meta_weight_net")
    result = costs.measure([METHODS[name] for name in names], "cpu", "fp32", 1, 1)
    (plain,) = entries(result, "cross_entropy")
    dual, *variants = entries(result, "dbn_mix")
    assert dual["settings"] == {}
    assert (plain["settings"], plain["epochs"], plain["arithmetic"]) == ({}, 200, [1.0, 1.0])
    assert (plain["memory"], plain["trained"], plain["stored"]) == (1.0, 1.0, 1.0)
    assert dual["arithmetic"] == [2.0, 2.0]
    assert dual["memory"] == pytest.approx(2.0, abs=0.01)
    assert 1 < dual["trained"] == dual["stored"] < 2
    assert plain["statistics"] == 0
    assert dual["statistics"] > 2
    mixed = next(entry for entry in variants if entry["settings"] == {"branches": "1", "tscale": "false"})
    assert mixed["statistics"] == pytest.approx(4 / 3, abs=0.03)  # four forward passes, of three in a step
    heads = entries(result, "crt")[0]
    assert heads["epochs"] == 10
    assert heads["arithmetic"] == [pytest.approx(1 / 3, abs=0.02)] * 2  # a forward pass of three
    assert heads["memory"] < 0.01 > heads["trained"] > 0
    assert heads["stored"] == 1.0
    assert heads["run"] == pytest.approx(10 / 200 * sum(heads["epoch"]) / 2)
    nothing = next(entry for entry in entries(result, "logit_adjustment") if entry["settings"].get("frozen") == "true")
    assert (nothing["epochs"], nothing["epoch"], nothing["arithmetic"]) == (0, [], [])
    assert (nothing["run"], nothing["memory"], nothing["trained"], nothing["stored"]) == (0.0, 0.0, 0.0, 1.0)
    meta = entries(result, "meta_weight_net")[0]
    assert min(meta["arithmetic"]) > 2
    assert meta["memory"] > 1
    assert meta["stored"] > 1
    assert all(ratio > 0 for entry in result["costs"] for ratio in (entry["test"], *entry["epoch"]))


def test_operations_are_those_that_torch_counts(small_images):
    state = Ours(compare.recipe(precision="fp32"), small_images, torch.device("cpu")).state
    result = costs._epoch_operations(state, 0.0)
    state.step = 0
    with FlopCounterMode(display=False) as counter:
        train_step(state)
    assert result == counter.get_total_flops() * state.steps > 0


def test_a_cost_that_changes_on_the_way_is_weighted_by_the_switch(small_images):
    (late,) = costs.measure([Late], "cpu", "fp32", 1, 1)["costs"]
    early, after = late["epoch"]
    assert late["arithmetic"] == [1.0, 2.0]
    assert late["run"] == pytest.approx(0.8 * early + 0.2 * after)


def test_bytes_kept_for_the_backward_pass_are_counted_once(small_images):
    """Of a network whose loss is a square of its logits: one more (B, K) than of their sum, and no parameter."""

    class Summed(Late):
        def loss(self, net, batches, ctx):
            return net(batches["uniform"].images)[0].sum()

    class Squared(Late):
        def loss(self, net, batches, ctx):
            logits = net(batches["uniform"].images)[0]
            return (logits * logits).sum()

    recipe = compare.recipe(precision="fp32")
    kept = []
    for method in (Summed(1.0), Squared(1.0)):
        state = Ours(dataclasses.replace(recipe, method=method), small_images, torch.device("cpu")).state
        kept += [costs.kept_bytes(state), costs.kept_bytes(state)]
    assert kept[0] == kept[1]
    assert kept[2] == kept[3] == kept[0] + 4 * recipe.batch * 10


def test_methods_beside_cross_entropy_are_printed_and_given_as_json(small_images, run, refused):
    words = ["bench", "--methods", "crt", "bbn", "--rounds", "1", "--steps", "1", "--device", "cpu"]
    code, out, err = run(*words, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert {entry["method"] for entry in document["costs"]} == {"crt", "bbn"}
    assert {"device", "torch", "precision", "date", "cross_entropy"} == document.keys() - {"costs"}
    assert {entry["commit"] for entry in document["costs"]} == {provenance.commit()}
    assert err.count("bbn: a run costs") == len(entries(document, "bbn"))
    lines = run(*words)[1].splitlines()
    assert lines[0].startswith("measured on cpu")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| crt", *["| bbn"] * len(entries(document, "bbn"))]
    assert {line.count("|") for line in lines[2:]} == {11}
    assert "did you mean 'bbn'" in refused("bench", "--methods", "bnn")
    assert "after --methods" in refused("bench", "bbn")
    assert "one of them" in refused("bench", "--methods", "--growth")


def test_a_figure_that_changes_in_training_is_shown_twice():
    entry = {
        "method": "late",
        "settings": {"switch": "0.8"},
        "epoch": [1.0, 2.0],
        "arithmetic": [1.0, 1.05],
        "run": 1.2,
    }
    entry |= {"memory": 1.5, "trained": 1.0, "stored": 1.25, "test": 0.99, "statistics": 0}
    _, shown, dashes = rows([entry], ["late", "early"])
    assert shown == ("late", "switch=0.8", "1.00 then 2.00", "1.02", "1.20", "1.50", "1.00", "1.25", "0.99", "none")
    assert dashes == ("early", "", *["—"] * 8)


def test_stored_costs_are_of_methods_that_there_are():
    stored = json.loads(COSTS.read_text())
    assert {entry["method"] for entry in stored["costs"]} <= METHODS.keys()
    assert all(set(entry["settings"]) <= set(fields.types(METHODS[entry["method"]])) for entry in stored["costs"])
