"""M2m: the translation written out in plain Python, which images it replaces, and what it must leave alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lt_repro.data.images import select
from lt_repro.data.samplers import ClassBalanced, Uniform, generator
from lt_repro.data.split import make_split
from lt_repro.errors import RequestError
from lt_repro.methods.base import Batch, Sampled, StepContext
from lt_repro.methods.m2m import M2m, draw_by_weight, evaluation_mode, source_weights, translate, unit_noise
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.train.loop import fit, train_step
from lt_repro.train.state import TrainState

COUNTS = (12.0, 7.0, 4.0, 3.0)
LABELS = (0, 2, 3, 1, 0, 3)
PIXELS, HIDDEN, CLASSES = (1, 2, 3), 5, 4
ALWAYS = {"slot": [0.999] * 6, "source": [0.1, 0.3, 0.5, 0.7, 0.9, 0.6], "accept": [0.0] * 6, "noise": [0.5] * 6}


class Small(nn.Module):
    """z = V tanh(W x), in float64."""

    def __init__(self, seed):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.w, self.v = (
            nn.Parameter(torch.from_numpy(rng.normal(0, 2, shape))) for shape in ((HIDDEN, 6), (CLASSES, HIDDEN))
        )

    def forward(self, images):
        return [(images.flatten(1) @ self.w.T).tanh() @ self.v.T]


def slow_logits(net, x):
    hidden = [math.tanh(sum(w * value for w, value in zip(row, x, strict=True))) for row in net.w.tolist()]
    return hidden, [sum(v * h for v, h in zip(row, hidden, strict=True)) for row in net.v.tolist()]


def slow_softmax(z):
    total = sum(math.exp(value) for value in z)
    return [math.exp(value) / total for value in z]


def slow_gradient(net, x, of_logits):
    """The gradient in x of a function of the logits whose own gradient is `of_logits`."""
    hidden, _ = slow_logits(net, x)
    through = [
        (1 - h * h) * sum(of_logits[k] * net.v[k, i].item() for k in range(CLASSES)) for i, h in enumerate(hidden)
    ]
    return [sum(through[i] * net.w[i, p].item() for i in range(HIDDEN)) for p in range(len(x))]


def slow_translate(x, target, source, net, teacher, steps=10, step_size=0.1, lam=0.5, mistake=""):
    """One image, step by step; `mistake` plants an error."""
    x = [min(max(value, 0), 1) for value in x]
    for _ in range(steps):
        _, z = slow_logits(teacher, x)
        of_g = [p - (k == target) for k, p in enumerate(slow_softmax(z))]
        sign = -1 if mistake == "towards the source" else 1
        of_f = [sign * lam * (k == source) for k in range(CLASSES)]
        if mistake == "the probability of the source":
            p = slow_softmax(slow_logits(net, x)[1])
            of_f = [lam * p[source] * ((k == source) - p[k]) for k in range(CLASSES)]
        pair = slow_gradient(teacher, x, of_g), slow_gradient(net, x, of_f)
        if mistake == "networks swapped":
            pair = slow_gradient(net, x, of_g), slow_gradient(teacher, x, of_f)
        gradient = [a + b for a, b in zip(*pair, strict=True)]
        norm = 1.0 if mistake == "not normalised" else math.sqrt(sum(d * d for d in gradient))
        x = [value - step_size * d / norm for value, d in zip(x, gradient, strict=True)]
        if mistake != "not clipped":
            x = [min(max(value, 0), 1) for value in x]
    return x


@pytest.fixture
def nets():
    return Small(0), Small(1)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(2).random((6, *PIXELS)))


def at(teacher, random=ALWAYS, counts=COUNTS, logged=None):
    where = map(torch.tensor, (0.9, 0.9, 0.1))
    given = {name: torch.tensor(values, dtype=torch.float64) for name, values in random.items()}
    log = (lambda name, value: None) if logged is None else logged.__setitem__
    return StepContext(*where, torch.tensor(counts, dtype=torch.float64), given, {"teacher": teacher}, log)


def composed(method, nets, images, **kwargs):
    return method.composed(nets[0], images, torch.tensor(LABELS), at(nets[1], **kwargs))


@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("steps", [1, 10])
def test_translation_is_its_equation_written_out_image_by_image(nets, images, lam, steps):
    targets, sources = [3, 2, 1, 3, 0, 2], [0, 1, 0, 2, 1, 0]
    moved = translate(images, torch.tensor(targets), torch.tensor(sources), *nets, steps, 0.1, lam)
    for x, k, k0, result in zip(images.flatten(1).tolist(), targets, sources, moved.flatten(1).tolist(), strict=True):
        assert result == pytest.approx(slow_translate(x, k, k0, *nets, steps=steps, lam=lam), abs=1e-9)
    assert not moved.requires_grad
    assert steps == 1 or (moved == 0).any()  # so the clip was used


@pytest.mark.parametrize(
    "mistake",
    ["towards the source", "the probability of the source", "networks swapped", "not normalised", "not clipped"],
)
def test_a_planted_mistake_in_the_translation_is_seen(nets, images, mistake):
    targets, sources = [3, 2, 1, 3, 0, 2], [0, 1, 0, 2, 1, 0]
    result = translate(images, torch.tensor(targets), torch.tensor(sources), *nets, 10, 0.1, 0.5).flatten(1)
    wrong = [
        slow_translate(x, k, k0, *nets, mistake=mistake)
        for x, k, k0 in zip(images.flatten(1).tolist(), targets, sources, strict=True)
    ]
    assert (result - torch.tensor(wrong)).abs().max() > 1e-3


def test_a_step_has_the_norm_that_is_given_and_no_gradient_moves_nothing(nets, images):
    inside = 0.4 + images / 5
    moved = translate(inside, torch.tensor(LABELS), torch.tensor([0] * 6), *nets, 1, 0.1, 0.5)
    assert (moved - inside).flatten(1).norm(dim=1).tolist() == pytest.approx([0.1] * 6)
    flat = [Small(0), Small(1)]
    for net in flat:
        net.w.data.zero_()
    assert torch.equal(translate(inside, torch.tensor(LABELS), torch.tensor([0] * 6), *flat, 3, 0.1, 0.5), inside)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.999999])
def test_source_weights_are_one_minus_beta_to_the_gap_for_larger_classes_alone(beta):
    sizes = [COUNTS[y] for y in LABELS]
    result = source_weights(torch.tensor(sizes), beta)
    expected = [[1 - beta ** max(n_j - n_k, 0) for n_j in sizes] for n_k in sizes]
    assert result.double().numpy() == pytest.approx(np.array(expected), rel=1e-5)
    assert (result[0] == 0).all()


def test_a_source_is_drawn_with_probability_like_its_weight():
    weights = torch.tensor([0.5, 0.0, 0.2, 0.3, 0.0])
    keys = torch.from_numpy(np.random.default_rng(0).random(40_000)).float()
    drawn = draw_by_weight(weights.expand(len(keys), -1), keys)
    shares = torch.bincount(drawn, minlength=5) / len(keys)
    assert shares.tolist() == pytest.approx([0.5, 0.0, 0.2, 0.3, 0.0], abs=0.01)
    edges = torch.tensor([0.0, 0.49999, 0.50001, 0.69999, 0.70001, 0.99999])
    assert draw_by_weight(weights.expand(6, -1), edges).tolist() == [0, 0, 2, 2, 3, 3]
    assert draw_by_weight(weights[[1, 0]].expand(1, -1), torch.tensor([0.0])).tolist() == [1]


def test_noise_has_norm_one_and_depends_on_the_key_and_the_pixel_alone():
    keys = torch.from_numpy(np.random.default_rng(0).random(200)).float()
    noise = unit_noise(keys, torch.empty(200, 3, 16, 16))
    assert noise.flatten(1).norm(dim=1).numpy() == pytest.approx(np.ones(200), rel=1e-5)
    assert torch.equal(noise[7:9], unit_noise(keys[7:9], torch.empty(2, 3, 16, 16)))
    assert not torch.equal(noise[0], noise[1])
    flat = noise.flatten(1).double() * math.sqrt(768)  # unit variance
    assert abs(flat.mean()) < 0.01
    assert flat.pow(4).mean() == pytest.approx(9 / 5, abs=0.02)  # of a uniform distribution
    close = keys[0] + torch.arange(200) / 2**24
    for rows in (flat, unit_noise(close, torch.empty(200, 3, 16, 16)).flatten(1).double() * math.sqrt(768)):
        for a, b in ((rows[:, 1:], rows[:, :-1]), (rows[1:], rows[:-1])):  # neighbouring pixels and keys
            assert abs((a * b).mean()) < 0.02


@pytest.mark.parametrize("slot", [0.2, 0.9])
@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("accept", [0.0, 0.9999])
def test_an_image_is_replaced_only_if_slot_teacher_and_draw_agree(nets, images, slot, sure, accept):
    """The truth table; image 1 of class 2, N = 4 of 12, whose only larger classes are 0 and 1.

    Nothing is translated that the draws would not accept.
    """
    passed = []
    nets[1].register_forward_pre_hook(lambda net, args: passed.append(len(args[0])))
    method = M2m(gamma=0.0 if sure else 1.0, noise=0.0, beta=0.99, switch=0.0)
    random = ALWAYS | {"slot": [0.0, slot, 0.0, 0.0, 0.0, 0.0], "accept": [0.0, accept, 0.0, 0.0, 0.0, 0.0]}
    logged = {}
    result = composed(method, nets, images, random=random, logged=logged)
    replaced = slot == 0.9 and sure and accept == 0.0
    assert [not torch.equal(a, b) for a, b in zip(result, images, strict=True)] == [False, replaced] + 4 * [False]
    assert logged["accepted"].item() == float(replaced)
    assert passed == 11 * [int(slot == 0.9 and accept == 0.0)]  # ten steps, and once to accept


def test_the_batch_is_composed_as_written_out(nets, images):
    """Slots, sources, translation, acceptance: everything at once, image by image."""
    rng = np.random.default_rng(5)
    replaced = tried = 0
    for _ in range(20):
        random = {name: rng.random(6).tolist() for name in ALWAYS}
        logged = {}
        method = M2m(gamma=0.2, beta=0.5, noise=0.2, steps=4, switch=0.0)
        result = composed(method, nets, images, random=random, logged=logged).flatten(1).tolist()
        noise = (0.2 * unit_noise(torch.tensor(random["noise"], dtype=torch.float64), images)).flatten(1).tolist()
        rows, tries, hits = images.flatten(1).tolist(), 0, 0
        for i, k in enumerate(LABELS):
            weights = [1 - 0.5 ** max(COUNTS[y] - COUNTS[k], 0) for y in LABELS]
            expected = rows[i]
            if random["slot"][i] >= COUNTS[k] / max(COUNTS) and sum(weights):
                tries += 1
                place, j = random["source"][i] * sum(weights), 0
                while sum(weights[: j + 1]) <= place:
                    j += 1
                start = [a + b for a, b in zip(rows[j], noise[i], strict=True)]
                x = slow_translate(start, k, LABELS[j], *nets, steps=4)
                if slow_softmax(slow_logits(nets[1], x)[1])[k] >= 0.2 and random["accept"][i] < weights[j]:
                    hits, expected = hits + 1, x
            assert result[i] == pytest.approx(expected, abs=1e-6)
        assert logged["accepted"].item() == pytest.approx(hits / max(tries, 1))
        replaced, tried = replaced + hits, tried + tries
    assert 10 < replaced < tried - 10


def test_acceptance_includes_the_threshold_itself(nets, images):
    """With one step of size 0 the teacher's probability is known: at it accepted, just above not."""
    random = ALWAYS | {"slot": [0.0, 0.9, 0.0, 0.0, 0.0, 0.0]}
    method = M2m(steps=1, step_size=0.0, noise=0.0, switch=0.0, beta=0.9)
    weights = source_weights(torch.tensor([COUNTS[y] for y in LABELS]), 0.9)
    source = int(draw_by_weight(weights, torch.full((6,), 0.3))[1])
    p = torch.softmax(nets[1](images)[0], dim=1)[source, LABELS[1]].item()
    for gamma, replaced in ((p, True), (math.nextafter(p, 1), False)):
        result = composed(replace(method, gamma=gamma), nets, images, random=random)
        assert torch.equal(result[1], images[source]) == replaced


def test_the_largest_class_never_gets_translated_images(nets, images):
    """Not even where a draw in [0, 1) became 1 as float32."""
    random = ALWAYS | {"slot": [1.0] * 6, "source": [1.0] * 6}
    result = composed(M2m(gamma=0.0, switch=0.0), nets, images, random=random)
    largest = torch.tensor(LABELS) == 0
    assert torch.equal(result[largest], images[largest])
    default = composed(M2m(gamma=0.0, switch=0.0, beta=0.01), nets, images)
    changed = torch.tensor([not torch.equal(a, b) for a, b in zip(default, images, strict=True)])
    assert torch.equal(changed, ~largest)


def test_equal_counts_replace_nothing(nets, images):
    assert torch.equal(composed(M2m(gamma=0.0, switch=0.0), nets, images, counts=(5.0,) * 4), images)


def loss(method, nets, images, draws="balanced", **kwargs):
    return method.loss(nets[0], {draws: Batch(images, torch.tensor(LABELS))}, at(nets[1], **kwargs))


def slow_loss(net, images, base, mistake=""):
    total = 0.0
    for x, y in zip(images.flatten(1).tolist(), LABELS, strict=True):
        _, z = slow_logits(net, x)
        if base == "ldam":
            margin = 0.5 * (min(COUNTS) / COUNTS[y]) ** 0.25
            z[y] -= margin * (1 if mistake == "unscaled margin" else 30)
        total -= math.log(slow_softmax(z)[y])
    return total / 6


@pytest.mark.parametrize("base", ["ce", "ldam"])
def test_loss_is_that_of_the_composed_batch(nets, images, base):
    method = M2m(base, gamma=0.2, switch=0.0)
    batch = composed(method, nets, images)
    assert not torch.equal(batch, images)
    result = loss(method, nets, images)
    assert result.item() == pytest.approx(slow_loss(nets[0], batch, base), rel=1e-9)
    result.backward()
    gradients = [parameter.grad.clone() for parameter in nets[0].parameters()]
    nets[0].zero_grad()
    loss(method, nets, batch, draws="uniform").backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, nets[0].parameters(), strict=True))
    assert all(parameter.grad is None for parameter in nets[1].parameters())


def test_an_unscaled_margin_is_seen(nets, images):
    result = loss(M2m("ldam"), nets, images, draws="uniform").item()
    assert result == pytest.approx(slow_loss(nets[0], images, "ldam"), rel=1e-9)
    assert result != pytest.approx(slow_loss(nets[0], images, "ldam", "unscaled margin"), rel=1e-3)


@pytest.mark.parametrize("draws", ["uniform", "balanced"])
def test_before_the_switch_and_with_nothing_accepted_it_is_cross_entropy(nets, images, draws):
    """gamma = 1 translates and no teacher is so sure; above 1 nothing is translated: the same loss."""
    expected = functional.cross_entropy(nets[0](images)[0], torch.tensor(LABELS)).item()
    for gamma in (1.0, 1.5, math.inf):
        assert loss(M2m(gamma=gamma), nets, images, draws=draws).item() == pytest.approx(expected, rel=1e-12)
    accepted = loss(M2m(gamma=0.0), nets, images, draws=draws).item()
    assert (accepted == pytest.approx(expected, rel=1e-6)) == (draws == "uniform")


def test_balanced_draws_begin_at_the_switch():
    method = M2m()
    assert method.samplers(159 / 200) == (Sampled("uniform", Uniform()),)
    assert method.samplers(160 / 200) == (Sampled("balanced", ClassBalanced()),)
    assert M2m(switch=1.0).samplers(0.999) == (Sampled("uniform", Uniform()),)
    assert M2m(gamma=2.0).samplers(160 / 200) == method.samplers(160 / 200)


def test_without_a_scale_a_cosine_teacher_could_accept_nothing():
    """Why the teacher of M2m with LDAM is a plain network: cosines in [-1, 1] give no probability above these."""
    for classes, highest in ((10, 0.45), (100, 0.07)):
        cosines = -torch.ones(classes)
        cosines[0] = 1
        assert torch.softmax(cosines, dim=0)[0].item() == pytest.approx(highest, abs=0.001)
        assert torch.softmax(30 * cosines, dim=0)[0] > 0.9


def test_ldam_has_a_cosine_head_with_the_scale_of_its_margins():
    assert M2m("ldam").net_spec() == NetSpec(head="cosine", scale=30.0)
    assert M2m().net_spec() == NetSpec()


@pytest.fixture
def resnets():
    torch.manual_seed(0)
    pair = [ResNet("resnet8", spec, CLASSES, [0.5], [0.2]) for spec in (M2m("ldam").net_spec(), NetSpec())]
    return pair[0], pair[1].eval()


def drawn(resnets, method, rows=24):
    """Images, labels and a context for `resnets`."""
    torch.manual_seed(1)
    random = {
        name: torch.from_numpy(make(generator(0, name, 0), 1, rows)).float()[0]
        for name, make in method.random_inputs.items()
    }
    where = map(torch.tensor, (0.9, 0.9, 0.1))
    ctx = StepContext(*where, torch.tensor(COUNTS), random, {"teacher": resnets[1]})
    return torch.rand(rows, 1, 8, 8), torch.randint(0, CLASSES, (rows,)), ctx


def test_translation_leaves_both_networks_as_they_are(resnets):
    method = M2m("ldam", gamma=0.0, steps=2, beta=0.01)
    resnets[0].trunk[2].eval()  # a part in another mode
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in resnets]
    modes = [[module.training for module in net.modules()] for net in resnets]
    images, labels, ctx = drawn(resnets, method)
    result = method.composed(resnets[0], images, labels, ctx)
    assert not torch.equal(result, images)
    assert not result.requires_grad
    for net, state, mode in zip(resnets, before, modes, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert [module.training for module in net.modules()] == mode
        assert all(parameter.grad is None for parameter in net.parameters())
        assert net.images_seen == 0
    resnets[0].eval()
    assert torch.equal(method.composed(resnets[0], images, labels, ctx), result)  # in evaluation mode it was already


def test_the_mode_comes_back_after_an_error(resnets):
    def broken():
        with evaluation_mode(resnets[0]):
            assert not any(module.training for module in resnets[0].modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert all(module.training for module in resnets[0].modules())


def test_bf16_translates_in_fp32_and_still_trains_every_parameter(resnets):
    """A weight that autocast keeps as bf16 from a pass without gradients would get none in the next."""
    method = M2m("ldam", gamma=0.0, steps=2, beta=0.01)
    images, labels, ctx = drawn(resnets, method)
    expected = method.composed(resnets[0], images, labels, ctx)
    assert not torch.equal(expected, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(method.composed(resnets[0], images, labels, ctx), expected)
        result = method.loss(resnets[0], {"balanced": Batch(images, labels)}, ctx)
    assert result.dtype == torch.float32
    result.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in resnets[0].parameters())


READS = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero", "masked_select"}


class Reads(TorchFunctionMode):
    """Lists what waits for the device: numbers read from it, and shapes that depend on its data."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        masked = func.__name__ == "__getitem__" and getattr(args[1], "dtype", None) == torch.bool
        if masked or func.__name__ in READS:
            self.names.append(func.__name__)
        return func(*args, **kwargs or {})


def test_a_step_reads_from_the_device_which_images_to_translate_and_nothing_else(resnets):
    method = M2m(gamma=0.5, steps=2)
    images, labels, ctx = drawn(resnets, method)
    with Reads() as reads:
        method.composed(resnets[0], images, labels, ctx)
    assert reads.names == ["nonzero"]
    with Reads() as reads:
        _ = images[labels == 0], labels.sum().item(), bool(labels[0])
    assert reads.names == ["__getitem__", "item", "__bool__"]


def test_a_run_logs_how_many_are_accepted_and_counts_no_translation_as_training(small, pool, tmp_path):
    images = select(pool, make_split(pool.train_labels, ratio=4, name=pool.name))
    teacher = fit(small(), images, out=tmp_path).recipe
    made = small(method="m2m", parents={"teacher": teacher}, gamma=0.0, steps=2, beta=0.01, switch=0.5)
    run = fit(made, images, out=tmp_path, device="cpu")
    assert run.history["accepted"][:2] == [None, None]
    assert 0 < run.history["accepted"][2] <= 1
    state = TrainState(made.replace(seed=1, switch=0.0), images, tmp_path, torch.device("cpu"))
    state.start_epoch()
    train_step(state)
    assert state.images_passed == 8


@pytest.mark.parametrize("dataset", ["cifar100", "cifar10", "digits"])
def test_a_teacher_shortens_no_run(dataset):
    teacher = recipe(dataset, epochs=3, seed=2)
    plain = recipe(dataset)
    for preset in ("", "published"):
        made = recipe(dataset, "m2m", preset=preset, parents={"teacher": teacher})
        assert made.epochs == (200 if preset else plain.epochs)
        assert (made.schedule, made.seed) == ("steps", 2)
        assert made.warmup == 0.025


def test_the_published_preset_has_the_code_s_schedule():
    made = recipe("cifar10", "m2m", preset="published", parents={"teacher": recipe("cifar10")})
    rates = [made.learning_rate((epoch + 0.5) / 200) for epoch in (0, 4, 5, 159, 160, 179, 180, 199)]
    assert rates[2:] == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    assert 0 < rates[0] < rates[1] < 0.1
    assert made.method == M2m()


def test_without_translation_there_is_no_teacher_and_nothing_to_draw():
    for method in (M2m(gamma=1.01), M2m(switch=1.0)):
        assert method.parents == ()
        assert method.random_inputs == {}
    assert M2m().parents == M2m(gamma=1.0).parents == ("teacher",)
    assert M2m().inactive_fields() == frozenset()
    inactive = {"steps", "step_size", "noise", "beta", "lam"}
    assert M2m(gamma=2.0).inactive_fields() == inactive
    assert M2m(switch=1.0).inactive_fields() == inactive | {"gamma"}


@pytest.mark.parametrize(
    "values",
    [
        {"base": "focal"},
        {"steps": 0},
        {"steps": 2.5},
        {"step_size": -0.1},
        {"noise": -1.0},
        {"beta": 0.0},
        {"beta": 1.0},
        {"gamma": -0.1},
        {"lam": -0.5},
        {"lam": math.inf},
        {"switch": 1.1},
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_refused(values):
    with pytest.raises(RequestError, match=next(iter(values))):
        M2m(**values)
