"""BatchNorm's statistics gathered otherwise: what each kind is, where there is nothing to gather, what runs store."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EVERY, METHODS, ROWS
from torch import nn

from lt_repro.data.images import images_of
from lt_repro.errors import RequestError
from lt_repro.methods.base import StepContext
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.papers.dbn_mix.tables import TABLE4
from lt_repro.store import checkpoint
from lt_repro.store.runs import Run
from lt_repro.train import evaluate
from lt_repro.train.batches import load_batches
from lt_repro.train.bn_statistics import GATHERED, regathered
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState
from lt_repro.train.stored import differences, evaluate_run

MIXED = [label for label in ROWS if "m" in label.partition("+")[2]]  # mixup or bm
CPU = torch.device("cpu")


def trained_epoch(recipe, images, out):
    """A run after its first epoch."""
    state = TrainState(recipe, images, out, CPU)
    state.start_epoch()
    while state.step < state.steps:
        train_step(state)
    state.finish_epoch(1)
    return state


def gathered(state, kind):
    return regathered(kind, state.recipe, state.net, state.sources, state.class_counts, state.teachers, state.epoch - 1)


def layers(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def statistics(net):
    return [(layer.running_mean.clone(), layer.running_var.clone()) for layer in layers(net)]


def passes(state, kind, label):
    """What passes through the network in each kind, one call an entry, from the equations of the method."""
    inputs = state.inputs
    for step in range(state.steps):
        batches, random = load_batches(inputs, state.sources, step, state.recipe.crop)
        ctx = StepContext(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.0), state.class_counts, random)
        mixed = [images for images, _ in METHODS[label].samples(batches, ctx)]
        clean = [batches[name].images for name in ("uniform", "reverse")[: METHODS[label].branches]]
        if kind != "clean":
            yield mixed
        if kind == "clean":
            yield clean
        if kind == "blend":
            yield clean[0]


@pytest.mark.parametrize("kind", GATHERED)
@pytest.mark.parametrize("label", MIXED)
def test_each_kind_is_what_its_definition_gives(label, kind, small, images, tmp_path):
    """Means over all passes of the batch statistics that a layer sees, or running ones, in a slow float64 version."""
    state = trained_epoch(small(**ROWS[label], epochs=2), images, tmp_path)
    result = statistics(gathered(state, kind))
    net = copy.deepcopy(state.net).double()
    for layer in layers(net):
        layer.seen = []
        layer.register_forward_pre_hook(
            lambda module, args: module.seen.append((args[0].mean((0, 2, 3)), args[0].var((0, 2, 3), correction=1)))
        )
    start = statistics(net)
    net.train()
    with torch.no_grad():
        for images_passed in passes(state, kind, label):
            net([x.double() for x in images_passed] if isinstance(images_passed, list) else images_passed.double())
    for layer, before, after in zip(layers(net), start, result, strict=True):
        for i in range(2):
            if kind == "blend":
                expected = before[i]
                for seen in layer.seen:
                    expected = 0.9 * expected + 0.1 * seen[i]
            else:
                expected = torch.stack([seen[i] for seen in layer.seen]).mean(0)
            np.testing.assert_allclose(after[i].double(), expected, rtol=2e-3, atol=2e-4)


def test_clean_statistics_are_not_the_mixed_ones(small, images, tmp_path):
    """A negative control: what is compared above is not the same whatever is passed."""
    state = trained_epoch(small(**ROWS["dbn+bm"], epochs=2), images, tmp_path)
    means = {kind: statistics(gathered(state, kind))[0][1] for kind in GATHERED}
    assert all((means[kind] - means["mixed"]).abs().max() > 1e-3 for kind in ("clean", "blend"))


@pytest.mark.parametrize("kind", GATHERED)
def test_the_network_itself_is_left_as_it_is(kind, small, images, tmp_path):
    state = trained_epoch(small(**ROWS["dbn+bm+ts"], epochs=2), images, tmp_path)
    state.start_epoch()
    before = copy.deepcopy(state.net.state_dict())
    modes = [module.training for module in state.net.modules()]
    other = gathered(state, kind)
    assert other is not state.net
    assert all(torch.equal(value, before[name]) for name, value in state.net.state_dict().items())
    assert [module.training for module in state.net.modules()] == modes
    weights = dict(other.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in state.net.named_parameters())
    assert not any(module.training for module in other.modules())


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize("name", [name for name, method in EVERY.items() if method.param_groups])
def test_every_method_names_its_unmixed_batches_and_gets_the_same_numbers_where_it_mixes_nothing(name):
    method = EVERY[name]
    for progress in (0.0, 0.5, 1.0):
        names = method.unmixed(progress)
        assert set(names) <= {sampled.name for sampled in method.samplers(progress)}
        assert len(names) in (0, 1, len(method.net_spec().branches))
    mixes = getattr(method, "mix", "none") != "none" or type(method).name() in ("remix", "m2m")
    if not mixes:
        assert not method.gathers_mixed


@pytest.mark.parametrize("label", [label for label in ROWS if label not in MIXED])
def test_without_mixing_there_are_no_passes(label, small, images, tmp_path):
    state = trained_epoch(small(**ROWS[label], epochs=2), images, tmp_path)
    assert all(gathered(state, kind) is state.net for kind in GATHERED)
    assert set(map(json.dumps, state.result_bn().values())) == {json.dumps(state._outcome(state.logits))}


def test_a_frozen_trunk_keeps_its_statistics(small, images, tmp_path):
    fit(small(epochs=1, mix="mixup"), images, out=tmp_path)
    second = recipe(
        "made_up", parents={"features": small(epochs=1, mix="mixup")}, mix="bilateral", frozen=True, epochs=1
    )
    assert second.method.unmixed(1.0) == ("uniform",)
    assert not second.method.gathers_mixed
    run = fit(second, images, out=tmp_path)
    assert {kind: scores["accuracy"] for kind, scores in run.result_bn.items()} == dict.fromkeys(
        GATHERED, run.result["accuracy"]
    )


# --- what a run stores ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize("name", [name for name, method in EVERY.items() if method.gathers_mixed])
def test_a_run_stores_all_four_and_its_weights_give_them_again(name, small, pool, tmp_path):
    method = EVERY[name]
    default = dataclasses.replace(small(epochs=2), method=method) if not method.parents else None
    if default is None:
        fit(small(epochs=2), images_of(small(epochs=2).subset, pool), out=tmp_path)
        default = dataclasses.replace(small(epochs=2), method=method, parents={"teacher": small(epochs=2)})
    images = images_of(default.subset, pool)
    run = fit(default, images, out=tmp_path)
    assert run.result_bn.keys() == set(GATHERED)
    assert run.test_precision == "fp32"
    weights = checkpoint.load_weights(run.weights_path, run.weights["sha256"])
    for kind in GATHERED:
        stored = run.outcome(kind)
        assert stored.keys() >= {"accuracy", "per_class", "branches", "ece"}
        again = evaluate_run(run, weights, images, CPU, kind, [tmp_path])
        assert differences(run, again.scores, kind) == []
        assert run.accuracy("all", None, kind) == again.scores["accuracy"]["all"]
    with pytest.raises(RequestError, match="statistics"):
        evaluate_run(run, weights, images, CPU, "cleaned")


def test_the_curve_has_them_where_asked_and_training_is_the_same(small, images, tmp_path):
    made = small(**ROWS["dbn+bm+ts"])
    plain, asked = (fit(made, images, out=tmp_path / str(x), eval_every=1, eval_bn=x) for x in (False, True))
    assert asked.weights == plain.weights
    assert asked.result == plain.result
    assert [point.keys() for point in plain.curve] == [{"epoch", "all"}] * 3
    assert [point["bn"].keys() for point in asked.curve] == [set(GATHERED)] * 3
    assert asked.curve[-1]["bn"] == {kind: run["accuracy"]["all"] for kind, run in asked.result_bn.items()}


def test_an_older_run_has_the_others_only_where_nothing_is_mixed(small, images, tmp_path):
    for label, value in (("sbn", True), ("sbn+bm", False)):
        run = fit(small(**ROWS[label], epochs=1), images, out=tmp_path / label)
        older = dataclasses.replace(run, result_bn=None)
        assert (older.outcome("clean") == run.result) == value
        assert (older.accuracy(bn="clean") is not None) == value
        assert older.accuracy() == run.accuracy()


def test_best_has_the_groups_and_branches_of_its_epoch(small, images, tmp_path):
    made = small(**ROWS["dbn+bm+ts"], epochs=3)
    run = fit(made, images, out=tmp_path / "a", eval_every=1)
    top = max(point["all"] for point in run.curve)
    first = next(point for point in run.curve if point["all"] == top)
    assert {name: run.result["best"][name] for name in ("epoch", "all")} == {"epoch": first["epoch"], "all": top}
    best = run.result["best"]
    state = trained_epoch(made, images, tmp_path / "b")
    while state.epoch < first["epoch"]:
        state.start_epoch()
        while state.step < state.steps:
            train_step(state)
        state.finish_epoch(1)
    scores = evaluate.scores(state.predict(), images, made.spec.branches)
    assert best["accuracy"] == scores["accuracy"]
    assert best["branches"] == {name: {"accuracy": part["accuracy"]} for name, part in scores["branches"].items()}


def test_a_checkpoint_without_the_best_epochs_groups_still_continues(small, images, tmp_path):
    state = trained_epoch(small(), images, tmp_path)
    state.save()
    stored = state._to_save()
    del stored["best"]
    summary = {
        "key": state.recipe.key(),
        "epoch": 1,
        "epochs": 3,
        "step": 0,
        "steps": 1,
        "attempts": 1,
        "ended": "lost",
    }
    checkpoint.save(state.path, stored, summary)
    state.path.with_name(state.path.name.replace(".ckpt", ".before.ckpt")).unlink()
    again = TrainState(small(), images, tmp_path, CPU)
    assert (again.epoch, again.best) == (1, state.curve[0])


# --- tests in fp32 --------------------------------------------------------------------------------------------------


def test_a_gap_that_bf16_cannot_see_decides_the_class(small, images, tmp_path):
    """In bf16 logits 1 and 1.001 tie, and the first class, the most frequent one, would win."""
    made = small(precision="bf16", epochs=1)
    state = TrainState(made, images, tmp_path, CPU)
    assert state.precision == "bf16"
    head = state.net.heads[0]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1.0, 1.001, 0.0, 0.0]))
    assert set(state.predict().combined.argmax(axis=1)) == {1}
    state.net.eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():  # a control: the tie is there
        (logits,) = state.net(torch.zeros(2, 1, 8, 8))
    assert logits.argmax(dim=1).tolist() == [0, 0]


# --- tables ---------------------------------------------------------------------------------------------------------

DIGITS = ["--dataset", "digits", "--ratio", "60", "--epochs", "2"]


def test_a_table_shows_other_statistics_under_another_name(run, refused):
    for words in (["--arch", "dbn", "--mix", "bilateral"], []):
        assert run("train", *DIGITS, *words)[0] == 0
    (path,) = [path for path in Path("runs").glob("*.json") if Run.read(path).recipe.spec.branches != ("single",)]
    mixed = Run.read(path)
    code, out, _ = run("ablation-table", *DIGITS, "--seeds", "0", "--bn", "clean", "--out", "x")
    assert code == 0
    assert "Tested with BatchNorm statistics: clean" in out
    (file,) = Path("x").glob("*.md")
    assert file.stem.endswith("-bn-clean")
    assert f"{100 * mixed.accuracy(bn='clean'):.2f} (1)" in file.read_text()
    cells = json.loads(file.with_suffix(".json").read_text())["cells"]
    shown = {cell["row"]: (cell["mean"], cell["bn"]) for cell in cells if cell["n"]}
    assert shown["dbn+bm"] == (mixed.accuracy(bn="clean"), "clean")
    plain = json.loads(run("ablation-table", *DIGITS, "--seeds", "0", "--json")[1])["cells"]
    assert {cell["row"]: cell["mean"] for cell in plain}["dbn+bm"] == mixed.accuracy()
    older = dataclasses.replace(mixed, result_bn=None)
    path.unlink()
    older.publish(Path("runs"))
    out = run("ablation-table", *DIGITS, "--seeds", "0", "--bn", "clean", "--out", "x")[1]
    assert "Dual branch + bilateral mixup, ratio 60: older runs, which store running statistics alone" in out
    assert "did you mean" in refused("ablation-table", "--bn", "cleen")


def test_the_released_protocol_draws_a_split_a_seed_and_tests_every_epoch(run):
    words = ["reproduce", "table4", "--dataset", "digits", "--ratio", "60", "--set", "epochs=2", "--rows", "sbn"]
    code, out, err = run(*words, "--seeds", "1", "--protocol", "released", "--out", "x")
    assert code == 0, err
    (result,) = map(Run.read, Path("runs").glob("*.json"))
    assert (result.recipe.seed, result.recipe.split_seed) == (1, 1)
    assert [point["epoch"] for point in result.curve] == [1, 2]
    assert "Protocol released: each seed draws its own split" in out
    assert "best on test" in out
    assert run("train", *DIGITS, "--seed", "1", "--split-seed", "run")[1].strip().endswith(result.path.name)
    assert TABLE4.protocol("released").recipes()[-1].split_seed == 2
    assert TABLE4.protocol("last") is TABLE4


def test_all_exhibits_take_other_statistics_but_those_that_compare_them(run, refused):
    code, out, err = run("reproduce", "all", "--bn", "clean", "--render-only", "--out", "x", "--json")
    assert code == 0
    assert "note: skipped, they compare statistics themselves: statistics" in err
    assert {cell["bn"] for cell in json.loads(out)["cells"] if cell["n"]} <= {"clean"}
    assert "exhibits that do not compare statistics" in refused("reproduce", "statistics", "--bn", "clean")
