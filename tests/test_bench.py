"""The benchmark: its rival is a fair one, its arithmetic is right, and the command prints and stores it."""

import json
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lt_repro.bench import compare, floor, growth, start, textbook
from lt_repro.bench.ours import Ours
from lt_repro.bench.turn import Turn
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.sweep import workers
from lt_repro.sweep.runner import images_of


@pytest.fixture
def small_images(monkeypatch):
    """Few images, small batches, and quick floors; what is timed stays the same."""
    usual, pool = compare.recipe, compare.random_pool(10, 20, 40)

    def recipe(branches=1, **changes):
        return usual(branches, **{"batch": 8, "net": "resnet8", "ratio": 10.0, **changes})

    monkeypatch.setattr(compare, "recipe", recipe)
    monkeypatch.setattr(compare, "random_pool", lambda *_: pool)
    monkeypatch.setattr(compare, "TESTED", 20)
    monkeypatch.setattr(compare, "AUGMENTED", {"ours": 256, "textbook": 128})
    monkeypatch.setattr(textbook, "WORKERS", 1)
    monkeypatch.setattr(floor, "COPIED", 1 << 20)
    monkeypatch.setitem(floor.MATRIX_SIZE, "cpu", 64)
    return images_of(recipe(), pool)


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
    found = json.loads(out)
    for name in ("ours single", "textbook single", "ours dual", "textbook dual"):
        rate = found["contenders"][name]
        assert 0 < rate["min"] <= rate["images_per_s"] <= rate["max"]
    assert {"single", "dual", "augment"} <= found["ratios"].keys()
    assert {"copy_gb_s", "matrix_tflop_s", "share"} <= found["floor"].keys()
    assert {"device", "threads"} <= found.keys()
    assert err.count("round 2 of 2") == 6
    monkeypatch.setattr(compare, "compare", lambda *_: {name: found[name] for name in found.keys() - {"growth"}})
    code, out, _ = run(*words)
    assert code == 0
    assert "| ours / textbook | ratio |" in out
    assert f"| ours dual | {found['contenders']['ours dual']['images_per_s']:,.0f} (" in out
    assert "classes" not in out


def test_a_process_of_its_own_starts_and_says_when(small_images, tmp_path, capsys):
    pool = compare.random_pool()
    names = ("train_images", "train_labels", "test_images", "test_labels")
    np.savez(tmp_path / "pool.npz", **{name: getattr(pool, name) for name in names})
    before = time.time()
    start._main(str(tmp_path / "pool.npz"), "cpu", "1")
    found = json.loads(capsys.readouterr().out)
    assert before < found["first_step_at"] < time.time()
    assert found["peak_bytes"] > found["image_bytes"] == pool.train_images.nbytes + pool.test_images.nbytes


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
    assert workers.usual_jobs(torch.device("cpu")) == jobs
    assert workers.usual_jobs(torch.device("cuda")) == 1
