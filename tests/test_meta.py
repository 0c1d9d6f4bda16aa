"""Methods that learn on a balanced meta batch: the meta gradient against double backward, the meta set, the methods."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lt_repro.data.images import images_of, select
from lt_repro.data.load import known_split
from lt_repro.data.samplers import ClassBalanced, Uniform
from lt_repro.data.split import make_split
from lt_repro.errors import RequestError
from lt_repro.losses import effective_weights, focal_loss
from lt_repro.meta import as_function, meta_gradients, sensitive
from lt_repro.methods.base import Batch, MetaOptimizer, Sampled, StepContext
from lt_repro.methods.mcw import Mcw
from lt_repro.methods.meta_weight_net import MetaWeightNet, Weighting
from lt_repro.methods.metasaug import Covariances, MetaSAug
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.recipe import Recipe
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState

COUNTS = [12, 7, 4, 3]
RATE = 0.1


def network(method=None, dtype=torch.float64, name="resnet8", counts=COUNTS):
    torch.manual_seed(0)
    net = ResNet(name, NetSpec(), 4, [0.5], [0.2])
    if method is not None:
        net.aux.update(method.aux_modules(torch.tensor(counts, dtype=torch.float32), NetSpec()))
    return net.to(dtype)


def make_batches(dtype=torch.float64, size=6, meta=8):
    drawn = torch.Generator().manual_seed(1)
    sizes = {"uniform": size, "meta": meta}
    pairs = {
        n: (torch.rand(m, 1, 8, 8, generator=drawn), torch.randint(0, 4, (m,), generator=drawn))
        for n, m in sizes.items()
    }
    return {name: Batch(images.to(dtype), labels) for name, (images, labels) in pairs.items()}


def context(epoch=0.5, dtype=torch.float64, counts=COUNTS, log=None):
    where = (torch.tensor(value, dtype=dtype) for value in (epoch, epoch, RATE))
    extra = {} if log is None else {"log": log}
    return StepContext(*where, torch.tensor(counts, dtype=dtype), **extra)


def image_losses(function, parameters, batch):
    return functional.cross_entropy(function.call(parameters, batch.images)[0], batch.labels, reduction="none")


def virtual_step(function, train_loss, rate=RATE):
    """theta' written out, with the graph of its own step."""
    leaves = {name: value.detach().requires_grad_() for name, value in function.parameters.items()}
    gradients = torch.autograd.grad(train_loss(leaves), leaves.values(), create_graph=True)
    return {name: p - rate * g for (name, p), g in zip(leaves.items(), gradients, strict=True)}


def relative(result, expected):
    return ((result - expected).norm() / expected.norm()).item()


# The meta gradient


def problem(net, batches, mistake=""):
    """Weights of a linear function of each image's loss, its slope and offset learned: outputs, L, M and phi."""
    function, phi = as_function(net), [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, -0.2)]

    def outputs(parameters):
        return (image_losses(function, parameters, batches["uniform"]),)

    def train_loss(outputs):
        seen = outputs[0].detach() if mistake == "detached" else outputs[0]
        weights = torch.sigmoid(phi[0] * seen + phi[1])
        return (weights * outputs[0]).sum() / (1 if mistake == "divisor" else weights.sum())

    def meta_loss(parameters):
        return image_losses(function, parameters, batches["meta"]).mean()

    return function, outputs, train_loss, meta_loss, phi


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_meta_gradient_is_that_of_double_backward(layout):
    net, batches = network().to(memory_format=layout), make_batches()
    function, outputs, train_loss, meta_loss, phi = problem(net, batches)
    result = meta_gradients(outputs, train_loss, meta_loss, function.parameters, RATE, phi)
    stepped = virtual_step(function, lambda parameters: train_loss(outputs(parameters)))
    expected = torch.autograd.grad(meta_loss(stepped), phi)
    assert all(relative(f, e) < 1e-10 for f, e in zip(result, expected, strict=True))
    assert all(value.abs() > 1e-8 for value in expected)


@pytest.mark.parametrize("mistake", ["detached", "divisor", "rate"])
def test_a_planted_mistake_in_the_virtual_step_is_seen(mistake):
    net, batches = network(), make_batches()
    function, outputs, train_loss, meta_loss, phi = problem(net, batches, mistake)
    rate = 2 * RATE if mistake == "rate" else RATE
    result = meta_gradients(outputs, train_loss, meta_loss, function.parameters, rate, phi)
    function, outputs, train_loss, meta_loss, phi = problem(net, batches)
    stepped = virtual_step(function, lambda parameters: train_loss(outputs(parameters)))
    expected = torch.autograd.grad(meta_loss(stepped), phi)
    assert all(relative(f, e) > 1e-3 for f, e in zip(result, expected, strict=True))


def test_the_meta_gradient_is_that_of_finite_differences():
    net, batches = network(), make_batches()
    function, outputs, train_loss, meta_loss, phi = problem(net, batches)
    result = meta_gradients(outputs, train_loss, meta_loss, function.parameters, RATE, phi)
    for value, gradient in zip(phi, result, strict=True):
        ends = []
        for move in (1e-5, -2e-5):
            value.data += move
            stepped = virtual_step(function, lambda parameters: train_loss(outputs(parameters)))
            ends.append(meta_loss(stepped).item())
        value.data += 1e-5
        assert gradient.item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_outputs_and_their_derivatives_are_at_the_network_itself():
    net, batches = network(), make_batches()
    function, outputs, train_loss, meta_loss, _ = problem(net, batches)
    (losses,), (derivatives,) = sensitive(outputs, train_loss, meta_loss, function.parameters, RATE)
    torch.testing.assert_close(losses, outputs(function.parameters)[0])
    stepped = virtual_step(function, lambda parameters: train_loss(outputs(parameters)))
    leaves = {name: value.detach().requires_grad_() for name, value in stepped.items()}
    direction = torch.autograd.grad(meta_loss(leaves), leaves.values())
    moved = [
        outputs({n: p + sign * 1e-6 * v for (n, p), v in zip(function.parameters.items(), direction, strict=True)})[0]
        for sign in (1, -1)
    ]
    torch.testing.assert_close(derivatives, (moved[0] - moved[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    assert not derivatives.requires_grad


def test_a_meta_step_leaves_running_statistics_and_parameters_as_they_are():
    net, batches = network(), make_batches()
    before = copy.deepcopy(net.state_dict())
    function, *rest, phi = problem(net, batches)
    meta_gradients(*rest, function.parameters, RATE, phi)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net(batches["uniform"].images)  # a negative control: a plain pass moves them
    assert not torch.equal(net.state_dict()["trunk.2.running_mean"], before["trunk.2.running_mean"])


def test_under_autocast_a_meta_step_is_in_fp32():
    method, batches = MetaWeightNet(), make_batches(torch.float32)
    net = network(method, torch.float32)
    plain = method.meta_grads(net, batches, context(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        low = method.meta_grads(net, batches, context(dtype=torch.float32))
        assert net(batches["meta"].images)[0].dtype == torch.bfloat16
        assert method.loss(net, batches, context(dtype=torch.float32)).dtype == torch.float32
    assert all(torch.equal(plain[name], low[name]) and low[name].dtype == torch.float32 for name in plain)
    exact = method.meta_grads(network(method), make_batches(), context())
    assert all(relative(plain[name].double(), exact[name]) < 1e-3 for name in exact)


# The meta set


@pytest.mark.parametrize(
    ("dataset", "totals", "smallest"),
    [
        ("cifar10", (20391, 16989, 13967, 12380, 11177), 49),
        ("cifar100", (19183, 15594, 12354, 10626, 9304), 4),
    ],
)
def test_totals_with_ten_images_a_class_held_out(dataset, totals, smallest):
    splits = [known_split(dataset, float(ratio), "exp", 0, 10) for ratio in (10, 20, 50, 100, 200)]
    assert tuple(split.counts.sum() for split in splits) == totals
    assert splits[3].counts[-1] == smallest
    assert splits[3].counts[0] == {"cifar10": 4990, "cifar100": 490}[dataset]


def test_a_meta_set_is_balanced_beside_the_training_set_and_changes_the_digest():
    default, split = (known_split("cifar10", 100.0, "exp", 0, images) for images in (0, 10))
    assert [len(meta) for meta in split.meta] == [10] * 10
    for meta, drawn, before in zip(split.meta, split.positions, default.positions, strict=True):
        assert not set(meta) & set(drawn)
        assert before[: len(drawn)] == drawn  # the field's draw, with fewer images
    assert split.digest != default.digest
    assert default.meta == ()
    assert default.digest == known_split("cifar10", 100.0, "exp", 0).digest
    other = replace(split, meta=(split.meta[0][::-1], *split.meta[1:]))
    assert other.digest != split.digest
    assert len({known_split("cifar10", ratio, "exp", 0, 10).meta for ratio in (10.0, 200.0)}) == 1


def test_selected_meta_images_are_those_of_the_split_and_in_the_digest(pool):
    requested = {"ratio": 4, "name": pool.name}
    default = select(pool, make_split(pool.train_labels, **requested))
    split = make_split(pool.train_labels, **requested, meta_images=2)
    images = select(pool, split)
    assert default.extra == {}
    pixels, labels = images.extra["meta"]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    lists = [np.flatnonzero(pool.train_labels == k) for k in range(4)]
    expected = [pool.train_images[lists[k][at]] for k, positions in enumerate(split.meta) for at in positions]
    assert np.array_equal(pixels, np.stack(expected))
    assert images.split.counts.tolist() == [10, 6, 3, 2]
    assert np.array_equal(images.test_images, default.test_images)
    pool.train_images[lists[0][split.meta[0][0]]] += 1
    assert len({default.digest, images.digest, select(pool, split).digest}) == 3


def test_with_test_images_held_out_the_three_sets_are_apart():
    split = known_split("digits", 60.0, "exp", 0, 4)
    default = known_split("digits", 60.0, "exp", 0)
    assert split.held_out == default.held_out
    assert split.counts[0] == default.counts[0] - 4
    for parts in zip(split.positions, split.held_out, split.meta, strict=True):
        assert len(set().union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(("meta_images", "imb_type"), [(-1, "exp"), (20, "exp"), (1.5, "exp"), (2, "as_is")])
def test_a_meta_set_that_cannot_be_is_refused(meta_images, imb_type):
    with pytest.raises(RequestError, match="meta_images"):
        make_split(np.repeat([0, 1], 20), ratio=1, imb_type=imb_type, meta_images=meta_images)
    with pytest.raises(RequestError, match="meta_images"):
        recipe("digits", meta_images=-1)


def test_a_recipe_with_a_meta_set_is_another_recipe_and_gives_its_parents_split(pool):
    default, held = (recipe("digits", meta_images=images) for images in (0, 4))
    assert "meta_images" not in default.to_json()
    assert held.key() != default.key()
    assert Recipe.from_json(held.to_json()) == held
    child = recipe("digits", "crt", parents={"features": held})
    assert child.meta_images == 4
    with pytest.raises(RequestError, match="meta_images=0, but the parent has meta_images=4"):
        child.replace(meta_images=0)


def test_plain_methods_train_on_the_split_with_a_meta_set(small, pool, tmp_path):
    runs = [fit(made, images_of(made.subset, pool), out=tmp_path) for made in (small(), small(meta_images=2))]
    assert runs[0].split["digest"] != runs[1].split["digest"]
    assert runs[0].data_digest != runs[1].data_digest


def test_held_out_meta_batches_need_a_meta_set(small, images, tmp_path):
    made = replace(small(), method=MetaWeightNet("held_out"))
    with pytest.raises(RequestError, match="meta_weight_net without 'meta' images"):
        TrainState(made, images, tmp_path, torch.device("cpu"))


# Meta-Weight-Net


def slow_weighting(net, losses):
    """V written out with plain numbers."""
    first, _, second, _ = net.aux["weighting"].layers
    hidden = list(zip(first.weight[:, 0].tolist(), first.bias.tolist(), second.weight[0].tolist(), strict=True))
    sums = [second.bias.item() + sum(c * max(0.0, a * loss + b) for a, b, c in hidden) for loss in losses]
    return [1 / (1 + math.exp(-value)) for value in sums]


def slow_losses(net, batch):
    logits = copy.deepcopy(net)(batch.images)[0].tolist()
    return [
        math.log(sum(math.exp(z) for z in row)) - row[y] for row, y in zip(logits, batch.labels.tolist(), strict=True)
    ]


def test_the_loss_of_meta_weight_net_is_its_equation_written_out():
    method, batches = MetaWeightNet(), make_batches()
    net = network(method)
    losses = slow_losses(net, batches["uniform"])
    weights = slow_weighting(net, losses)
    result = method.loss(net, batches, context()).item()
    products = [w * loss for w, loss in zip(weights, losses, strict=True)]
    assert result == pytest.approx(sum(products) / sum(weights), rel=1e-12)
    assert result != pytest.approx(sum(products) / len(products), rel=1e-3)  # over the number of images
    assert result != pytest.approx(sum(losses) / len(losses), rel=1e-4)  # unweighted


def test_no_gradient_of_the_loss_goes_through_the_weights():
    method, batches = MetaWeightNet(), make_batches()
    net, other = network(method), network(method)
    method.loss(net, batches, context()).backward()
    losses = functional.cross_entropy(other(batches["uniform"].images)[0], batches["uniform"].labels, reduction="none")
    weights = other.aux["weighting"](losses).detach()
    (losses @ (weights / weights.sum())).backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert name.startswith("aux.") == (p.grad is None)
        assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-10, atol=1e-14)


def test_the_meta_gradient_of_meta_weight_net_is_that_of_double_backward():
    method, batches = MetaWeightNet(), make_batches()
    net = network(method)
    result = method.meta_grads(net, batches, context())
    function, weighting = as_function(net), net.aux["weighting"]

    def train_loss(parameters):
        losses = image_losses(function, parameters, batches["uniform"])
        weights = weighting(losses)
        return losses @ (weights / weights.sum())

    meta_loss = image_losses(function, virtual_step(function, train_loss), batches["meta"]).mean()
    expected = torch.autograd.grad(meta_loss, weighting.parameters())
    names = [f"aux.weighting.{name}" for name, _ in weighting.named_parameters()]
    assert list(result) == names
    assert all(relative(f, e) < 1e-10 for f, e in zip(result.values(), expected, strict=True))


def test_a_constant_weighting_is_cross_entropy():
    method, batches = MetaWeightNet(), make_batches()
    net = network(method)
    with torch.no_grad():
        net.aux["weighting"].layers[2].weight.zero_()
    result = method.loss(net, batches, context())
    images, labels = batches["uniform"]
    torch.testing.assert_close(result, functional.cross_entropy(copy.deepcopy(net)(images)[0], labels))


def test_v_is_stepped_by_the_authors_optimiser(small, images, tmp_path):
    """The momentum of two steps written out, which holds gradients and weight decay; V's moves are near rounding."""
    made = replace(small(), method=MetaWeightNet())
    state = TrainState(made, images, tmp_path, torch.device("cpu"))
    parameters = list(state.net.aux["weighting"].parameters())
    momenta = [torch.zeros_like(p) for p in parameters]
    state.start_epoch()
    for _ in range(2):
        batches, ctx = state.load_batches()
        gradients = made.method.meta_grads(state.net, batches, ctx).values()
        momenta = [0.9 * m + g + 5e-4 * p.detach() for m, g, p in zip(momenta, gradients, parameters, strict=True)]
        train_step(state)
    for p, momentum in zip(parameters, momenta, strict=True):
        torch.testing.assert_close(state.meta_optimizer.state[p]["momentum_buffer"], momentum, rtol=1e-4, atol=1e-9)
    used = {"lr": 1e-5, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    assert used.items() <= state.meta_optimizer.param_groups[0].items()


def test_the_loss_is_under_the_v_of_after_its_step(small, images, tmp_path, monkeypatch):
    state = TrainState(replace(small(), method=MetaWeightNet()), images, tmp_path, torch.device("cpu"))
    v, default, seen = state.net.aux["weighting"], MetaWeightNet.loss, []

    def watched(method, net, batches, ctx):
        seen.append([p.detach().clone() for p in v.parameters()])
        return default(method, net, batches, ctx)

    monkeypatch.setattr(MetaWeightNet, "loss", watched)
    before = [p.detach().clone() for p in v.parameters()]
    state.start_epoch()
    train_step(state)
    (used,) = seen
    assert all(map(torch.equal, used, v.parameters()))
    assert not all(map(torch.equal, used, before))


def test_v_is_an_mlp_of_one_hidden_layer_of_100_and_is_logged_at_fixed_losses():
    net, logged = network(MetaWeightNet()), {}
    assert [tuple(p.shape) for p in Weighting().parameters()] == [(100, 1), (100,), (1, 100), (1,)]
    MetaWeightNet().loss(net, make_batches(), context(log=logged.__setitem__))
    expected = slow_weighting(net, [0.05, 1.0, 5.0])
    assert [logged[name].item() for name in ("V(0.05)", "V(1)", "V(5)")] == pytest.approx(expected)


def test_the_meta_batches_of_the_two_protocols():
    uniform = Sampled("uniform", Uniform())
    assert MetaWeightNet().samplers(0.0) == (uniform, Sampled("meta", ClassBalanced(), batch=100))
    assert MetaWeightNet("held_out").samplers(0.0) == (uniform, Sampled("meta", Uniform(), source="meta", batch=100))
    assert recipe("cifar10", "meta_weight_net").meta_images == 0
    assert recipe("cifar10", "meta_weight_net", meta="held_out").meta_images == 10
    assert recipe("digits", "meta_weight_net", meta="held_out", meta_images=4).meta_images == 4


def test_without_learning_v_stays_as_it_starts(small, images, tmp_path):
    method = MetaWeightNet(learned=False)
    assert (method.samplers(0.0), method.meta_optimizer) == ((Sampled("uniform", Uniform()),), None)
    assert method.inactive_fields() == {"meta"}
    assert MetaWeightNet().inactive_fields() == frozenset()
    made = replace(small(), method=method)
    states = [
        TrainState(replace(made, method=m), images, tmp_path, torch.device("cpu")) for m in (method, MetaWeightNet())
    ]
    before = [copy.deepcopy(state.net.aux.state_dict()) for state in states]
    assert all(torch.equal(value, before[1][name]) for name, value in before[0].items())
    for state in states:
        state.start_epoch()
        train_step(state)
    moved = [
        any(not torch.equal(value, old[name]) for name, value in state.net.aux.state_dict().items())
        for state, old in zip(states, before, strict=True)
    ]
    assert moved == [False, True]


def test_images_of_a_meta_step_count_as_passed(small, images, tmp_path):
    """Three passes of a meta step and that of the loss: 8 images twice in the virtual step, 100 meta images, 8."""
    state = TrainState(replace(small(), method=MetaWeightNet()), images, tmp_path, torch.device("cpu"))
    state.start_epoch()
    train_step(state)
    assert state.images_passed == 8 + 100 + 8 + 8


PUBLISHED = {"batch": 100, "weight_decay": 5e-4, "nesterov": True, "crop_pad": "reflect", "meta_images": 10}


def test_the_published_preset_of_meta_weight_net():
    made = recipe("cifar100", "meta_weight_net", preset="published")
    assert {name: getattr(made, name) for name in PUBLISHED} == PUBLISHED
    assert (made.epochs, made.method) == (100, MetaWeightNet("held_out"))
    rates = [made.learning_rate((epoch + 0.5) / 100) for epoch in (0, 78, 79, 88, 89)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert made.method.meta_optimizer == MetaOptimizer(1e-5, 0.9, True, 5e-4)


def test_bad_values_of_meta_weight_net_are_refused():
    for values in ({"meta": "train"}, {"learned": 1}):
        with pytest.raises(RequestError, match=next(iter(values))):
            MetaWeightNet(**values)


# MCW

LATE = 0.8


def mcw_loss(method, net, batches, epoch=LATE, log=None):
    """The loss on the batches that the method takes at that point of training."""
    used = {sampled.name: batches[sampled.name] for sampled in method.samplers(epoch)}
    return method.loss(net, used, context(epoch, log=log))


def slow_class_weights(beta):
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [len(COUNTS) * value / sum(raw) for value in raw]


def slow_eps(net, batches, method, mistake=""):
    """eps by double backward from the equations."""
    function, batch = as_function(net), batches["uniform"]
    weights = torch.tensor(slow_class_weights(method.beta), dtype=torch.float64)[batch.labels]
    eps = torch.zeros(len(batch.labels), dtype=torch.float64, requires_grad=True)

    def train_loss(parameters):
        p = torch.softmax(function.call(parameters, batch.images)[0], dim=1).gather(1, batch.labels[:, None])[:, 0]
        losses = -((1 - p) ** method.gamma) * p.log()
        return ((weights + eps) * losses).mean() if mistake == "mean" else ((weights + eps) * losses).sum()

    stepped = virtual_step(function, train_loss)
    (gradient,) = torch.autograd.grad(image_losses(function, stepped, batches["meta"]).mean(), eps)
    return (method.step if mistake == "sign" else -method.step) * gradient


@pytest.mark.parametrize("gamma", [0.0, 1.0])
@pytest.mark.parametrize("mistake", ["", "sign", "mean"])
def test_eps_is_that_of_double_backward_and_mistakes_are_seen(gamma, mistake):
    method, net, batches = Mcw(gamma=gamma, step=1.0), network(), make_batches()
    labels = batches["uniform"].labels
    weights = effective_weights(torch.tensor(COUNTS, dtype=torch.float64), method.beta)[labels]
    result = method._eps(net, batches, weights, context(LATE))
    error = relative(result, slow_eps(net, batches, method, mistake))
    assert (error < 1e-10) if not mistake else (error > 0.1)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_the_loss_of_mcw_after_the_switch_is_its_equation_written_out(gamma):
    method, net, batches, logged = Mcw(gamma=gamma, step=3.0), network(), make_batches(), {}
    eps = slow_eps(net, batches, method).tolist()
    losses, weights = slow_losses(net, batches["uniform"]), slow_class_weights(method.beta)
    labels = batches["uniform"].labels.tolist()
    focal = [(1 - math.exp(-loss)) ** gamma * loss for loss in losses]
    expected = sum((weights[y] + e) * loss for y, e, loss in zip(labels, eps, focal, strict=True)) / len(labels)
    assert mcw_loss(method, net, batches, log=logged.__setitem__).item() == pytest.approx(expected, rel=1e-9)
    over = sum(weights[y] + e for y, e in zip(labels, eps, strict=True)) / len(labels)
    assert abs(over - 1) > 1e-2  # so that dividing by the sum of the weights would be seen
    largest = max(abs(e) / weights[y] for y, e in zip(labels, eps, strict=True))
    assert logged["max |eps| / w"].item() == pytest.approx(largest, rel=1e-9)
    without = mcw_loss(replace(method, step=0.0), copy.deepcopy(net), batches).item()
    assert abs(expected - without) > 1e-4  # eps shows


def test_eps_has_no_gradient_and_running_statistics_move_once():
    net, other, batches = network(), network(), make_batches()
    method = Mcw(step=3.0)
    eps = slow_eps(net, batches, method)
    mcw_loss(method, net, batches).backward()
    images, labels = batches["uniform"]
    weights = torch.tensor(slow_class_weights(method.beta), dtype=torch.float64)[labels] + eps
    (weights * focal_loss(other(images)[0], labels, 1.0, "softmax")).mean().backward()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-12)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("epoch", [0.0, 159 / 200])
def test_mcw_before_the_switch_is_cross_entropy_without_a_meta_batch(epoch):
    net, batches = network(), make_batches()
    assert Mcw().samplers(epoch) == (Sampled("uniform", Uniform()),)
    images, labels = batches["uniform"]
    expected = functional.cross_entropy(copy.deepcopy(net)(images)[0], labels)
    torch.testing.assert_close(mcw_loss(Mcw(), net, batches, epoch), expected)
    torch.testing.assert_close(mcw_loss(Mcw(step=0.0), net, batches, epoch), expected)


def test_mcw_without_eps_is_class_balanced_focal_loss_over_the_number_of_images():
    net, batches = network(), make_batches()
    images, labels = batches["uniform"]
    logits = copy.deepcopy(net)(images)[0]
    weights = torch.tensor(slow_class_weights(0.9999), dtype=torch.float64)
    result = mcw_loss(Mcw(step=0.0), net, batches)
    torch.testing.assert_close(result, (weights[labels] * focal_loss(logits, labels, 1.0, "softmax")).mean())
    plain = mcw_loss(Mcw(step=0.0, gamma=0.0), net, batches)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, labels, weights, reduction="sum") / len(labels))
    equal = Mcw(step=0.0, gamma=0.0).loss(net, batches, context(LATE, counts=[5, 5, 5, 5]))
    torch.testing.assert_close(equal, functional.cross_entropy(logits, labels))


def test_the_switch_of_mcw_is_the_epoch_160_of_200():
    at_switch = Mcw().samplers(160 / 200)
    assert at_switch == (Sampled("uniform", Uniform()), Sampled("meta", ClassBalanced(), batch=100))
    assert Mcw(meta="held_out").samplers(0.8)[1] == Sampled("meta", Uniform(), source="meta", batch=100)
    assert len(Mcw(step=0.0).samplers(0.8)) == 1


def test_fields_of_mcw_that_decide_nothing():
    assert Mcw().inactive_fields() == frozenset()
    assert Mcw(step=0.0).inactive_fields() == {"meta"}
    assert Mcw(switch=1.0).inactive_fields() == {"beta", "gamma", "step", "meta"}
    assert recipe("cifar10", "mcw", meta="held_out").meta_images == 10
    assert recipe("cifar10", "mcw", meta="held_out", step=0.0).meta_images == 0


def test_the_published_preset_of_mcw():
    made = recipe("cifar100", "mcw", preset="published")
    assert {name: getattr(made, name) for name in PUBLISHED} == PUBLISHED
    assert (made.epochs, made.method) == (200, Mcw(meta="held_out"))
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (0, 158, 159, 178, 179)]
    assert rates == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5])


def test_mcw_trains_through_its_switch_in_both_protocols(small, pool, tmp_path):
    for method in (Mcw(switch=0.5), Mcw(switch=0.5, meta="held_out")):
        made = replace(small(meta_images=2 if method.meta == "held_out" else 0), method=method)
        run = fit(made, images_of(made.subset, pool), out=tmp_path)
        assert run.status == "done"
        sizes = run.history["max |eps| / w"]
        assert sizes[:2] == [None, None]
        assert sizes[2] > 0


@pytest.mark.parametrize(
    "values",
    [{"switch": 1.1}, {"beta": 1.0}, {"gamma": -1.0}, {"step": -0.1}, {"step": math.inf}, {"meta": "test"}],
    ids=str,
)
def test_bad_values_of_mcw_are_refused(values):
    with pytest.raises(RequestError, match=next(iter(values))):
        Mcw(**values)


# MetaSAug


def saug(method, seed=3):
    """A network of the method whose estimates are not zero."""
    net = network(method)
    drawn = torch.Generator().manual_seed(seed)
    root = torch.randn(4, 64, 64, generator=drawn, dtype=torch.float64)
    net.aux["covariances"].covariance.copy_(root @ root.mT / 64)
    net.aux["covariances"].seen.fill_(5)
    return net


def slow_saug_loss(method, net, batch, covariance, epoch=LATE, mistake=""):
    """The late loss from the equations, number by number."""
    lam = method.strength * epoch / (1 if mistake == "without the half" else 2)
    weight, logits = net.heads[0].weight.tolist(), copy.deepcopy(net)(batch.images)[0].tolist()
    class_weights, total, divisor = slow_class_weights(method.beta), 0.0, 0.0
    for row, y in zip(logits, batch.labels.tolist(), strict=True):
        sigma = torch.tensor(covariance[0 if mistake == "one covariance" else y].tolist(), dtype=torch.float64)
        moved = []
        for c in range(4):
            apart = torch.tensor([a - b for a, b in zip(weight[c], weight[y], strict=True)], dtype=torch.float64)
            moved.append(row[c] + lam * float(apart @ sigma @ apart))
        if method.base == "ldam":
            scale = 30 if mistake == "scale" else 1
            moved[y] -= scale * 0.5 * (min(COUNTS) / COUNTS[y]) ** 0.25
        total += class_weights[y] * (math.log(sum(math.exp(z) for z in moved)) - moved[y])
        divisor += 1 if mistake == "over images" else class_weights[y]
    return total / divisor


def saug_loss(method, net, batches, epoch=LATE):
    used = {sampled.name: batches[sampled.name] for sampled in method.samplers(epoch)}
    return method.loss(net, used, context(epoch))


MISTAKES = ["", "without the half", "one covariance", "over images"]


@pytest.mark.parametrize(
    ("base", "mistake"), [*(("ce", m) for m in MISTAKES), *(("ldam", m) for m in [*MISTAKES, "scale"])]
)
def test_the_late_loss_of_metasaug_is_its_equation_written_out(base, mistake):
    method, batches = MetaSAug(base, strength=0.75, meta_lr=0.0), make_batches()
    net = saug(method)
    slow = slow_saug_loss(method, net, batches["uniform"], net.aux["covariances"].covariance.clone(), mistake=mistake)
    result = saug_loss(method, net, batches).item()
    assert (result == pytest.approx(slow, rel=1e-10)) == (not mistake)
    assert result != pytest.approx(slow, rel=1e-3) or not mistake


@pytest.mark.parametrize("base", ["ldam", "ce"])
def test_the_corrected_covariance_is_that_of_double_backward_and_enters_the_loss(base):
    method, batches = MetaSAug(base, strength=0.75, meta_lr=100.0), make_batches()
    net = saug(method)
    function, batch = as_function(net), batches["uniform"]
    sigma = net.aux["covariances"].covariance.clone().requires_grad_()
    weights = torch.tensor(slow_class_weights(method.beta), dtype=torch.float64)
    margins = torch.tensor([0.5 * (min(COUNTS) / n) ** 0.25 for n in COUNTS], dtype=torch.float64)

    def train_loss(parameters):
        z, w = function.call(parameters, batch.images)[0], parameters["heads.0.weight"]
        rows = []
        for row, y in zip(z, batch.labels, strict=True):
            moved = [row[c] + 0.75 * LATE / 2 * (w[c] - w[y]) @ sigma[y] @ (w[c] - w[y]) for c in range(4)]
            moved[y] = moved[y] - (margins[y] if base == "ldam" else 0.0)
            rows.append(torch.stack(moved))
        return functional.cross_entropy(torch.stack(rows), batch.labels, weights)

    stepped = virtual_step(function, train_loss)
    (gradient,) = torch.autograd.grad(image_losses(function, stepped, batches["meta"]).mean(), sigma)
    expected = sigma.detach() - 100 * gradient
    result = method._covariance(net, batches, context(LATE))
    assert relative(result - sigma.detach(), -100 * gradient) < 1e-10
    loss = saug_loss(method, net, batches).item()
    other = saug(method)
    assert loss == pytest.approx(slow_saug_loss(method, other, batch, expected), rel=1e-9)
    assert loss != pytest.approx(slow_saug_loss(method, other, batch, sigma.detach()), rel=1e-6)


def test_the_corrected_covariance_is_not_kept_and_has_no_gradient():
    batches = make_batches()
    nets = [saug(MetaSAug(meta_lr=meta_lr)) for meta_lr in (100.0, 0.0)]
    for net, meta_lr in zip(nets, (100.0, 0.0), strict=True):
        saug_loss(MetaSAug(meta_lr=meta_lr), net, batches).backward()
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())  # running statistics too
    assert not any(value.requires_grad for value in states[0].values())


def test_covariances_of_batches_are_those_of_all_images_together():
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(40, 5, generator=drawn, dtype=torch.float64) * torch.arange(1, 6) + 7
    labels = torch.cat([torch.zeros(4, dtype=torch.int64), torch.randint(0, 3, (36,), generator=drawn)])
    estimates, counted = Covariances(4, 5).double(), torch.tensor(True)
    for start, end in ((0, 4), (4, 5), (5, 20), (20, 40)):
        estimates.update(features[start:end], labels[start:end], counted)
    estimates.update(features + 100, labels, torch.tensor(False))  # before the switch
    for k in range(4):
        rows = features[labels == k].tolist()
        assert estimates.seen[k] == len(rows)
        mean = [sum(column) / max(len(rows), 1) for column in zip(*rows, strict=True)] or [0.0] * 5
        assert estimates.mean[k].tolist() == pytest.approx(mean)
        slow = [
            [sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / max(len(rows), 1) for j in range(5)]
            for i in range(5)
        ]
        torch.testing.assert_close(estimates.covariance[k], torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize("base", ["ldam", "ce"])
def test_metasaug_before_the_switch_is_cross_entropy_and_estimates_nothing(base):
    method, batches = MetaSAug(base), make_batches()
    net = network(method)
    images, labels = batches["uniform"]
    expected = functional.cross_entropy(copy.deepcopy(net)(images)[0], labels)
    torch.testing.assert_close(saug_loss(method, net, batches, 159 / 200), expected)
    assert not any(value.any() for value in net.aux.state_dict().values())
    saug_loss(method, net, batches, LATE)
    assert net.aux["covariances"].seen.sum() == 6


@pytest.mark.parametrize("off", [{"strength": 0.0}, {"meta_lr": 0.0}], ids=str)
def test_without_a_covariance_metasaug_is_its_base_loss(off):
    batches, weights = make_batches(), torch.tensor(slow_class_weights(0.9999), dtype=torch.float64)
    images, labels = batches["uniform"]
    logits = network()(images)[0]
    margins = torch.tensor([0.5 * (min(COUNTS) / n) ** 0.25 for n in COUNTS], dtype=torch.float64)
    for base, moved in (("ce", logits), ("ldam", logits - functional.one_hot(labels, 4) * margins)):
        method = MetaSAug(base, **off)
        net = saug(method) if off == {"strength": 0.0} else network(method)  # S = 0
        torch.testing.assert_close(saug_loss(method, net, batches), functional.cross_entropy(moved, labels, weights))


def test_the_switch_of_metasaug_is_the_epoch_160_of_200():
    assert len(MetaSAug().samplers(159 / 200)) == 1
    assert MetaSAug().samplers(160 / 200)[1] == Sampled("meta", ClassBalanced(), batch=100)
    assert MetaSAug(meta="held_out").samplers(0.8)[1] == Sampled("meta", Uniform(), source="meta", batch=100)
    assert [len(MetaSAug(**off).samplers(0.8)) for off in ({"meta_lr": 0.0}, {"strength": 0.0})] == [1, 1]


def test_under_autocast_metasaug_is_in_fp32_behind_the_features():
    method, batches = MetaSAug(), make_batches(torch.float32)
    net = saug(method).float()
    features = copy.deepcopy(net)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(net, batches, context(LATE, torch.float32))
        seen = features.features(batches["uniform"].images)[0]
    assert loss.dtype == torch.float32
    assert seen.dtype == torch.bfloat16
    expected = Covariances(4, 64)
    expected.load_state_dict(features.aux["covariances"].state_dict())
    expected.update(seen.float(), batches["uniform"].labels, torch.tensor(True))
    torch.testing.assert_close(net.aux["covariances"].covariance, expected.covariance)
    loss.backward()


def test_fields_of_metasaug_that_decide_nothing_and_its_tuned_strength():
    assert MetaSAug().inactive_fields() == frozenset()
    assert MetaSAug(meta_lr=0.0).inactive_fields() == {"meta"}
    assert MetaSAug(strength=0.0).inactive_fields() == {"meta", "meta_lr"}
    assert MetaSAug(switch=1.0).inactive_fields() == {"base", "strength", "meta_lr", "beta", "meta"}
    strengths = [recipe("cifar100", "metasaug", ratio=ratio).method.strength for ratio in (20.0, 50.0, 100.0)]
    assert strengths == [0.75, 0.75, 0.25]
    made = recipe("cifar100", "metasaug", preset="published")
    assert {name: getattr(made, name) for name in PUBLISHED} == PUBLISHED
    assert (made.epochs, made.method) == (200, MetaSAug(meta="held_out"))
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (0, 158, 159, 178, 179)]
    assert rates == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5])


@pytest.mark.parametrize(
    "values",
    [{"base": "focal"}, {"strength": -0.1}, {"meta_lr": -1.0}, {"switch": 2.0}, {"beta": 1.0}, {"meta": "val"}],
    ids=str,
)
def test_bad_values_of_metasaug_are_refused(values):
    with pytest.raises(RequestError, match=next(iter(values))):
        MetaSAug(**values)
