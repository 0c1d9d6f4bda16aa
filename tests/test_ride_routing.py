"""RIDE's routing against its equations written out with plain numbers: targets, loss, gates, what is saved."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from lt_repro.errors import RequestError
from lt_repro.losses import combine
from lt_repro.methods.base import Batch, StepContext
from lt_repro.methods.ride import Ride
from lt_repro.methods.ride_routing import RideRouting, experts_used, next_needed, running_means
from lt_repro.nets.resnet_cifar import ResNet
from lt_repro.nets.spec import NetSpec
from lt_repro.papers.dbn_mix.rivals import RIVALS
from lt_repro.papers.dbn_mix.settings import departures, recipe
from lt_repro.store import checkpoint
from lt_repro.train import network
from lt_repro.train.evaluate import predict
from lt_repro.train.loop import fit
from lt_repro.train.state import TrainState

COUNTS = torch.tensor([12.0, 7.0, 4.0, 3.0])
LABELS = [0, 2, 3, 1, 0, 0]
DIMENSIONS = 5


class Fixed:
    """A network whose features, one (B, D) per expert, and logits are given."""

    def __init__(self, method, features, logits):
        self.given, self.logits = features, logits
        spec = Ride().net_spec()._replace(branches=tuple("abcd"[: len(logits)]), widths=(16, 24, DIMENSIONS))
        torch.manual_seed(0)
        self.aux = torch.nn.ModuleDict(method.aux_modules(COUNTS, spec)).to(torch.float64)

    def features(self, images):
        return list(self.given[:, : len(images)])

    def heads(self, features):
        return list(self.logits[:, : len(features[0])])


def fixed(method, experts=3):
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.normal(0, 2, (experts, len(LABELS), DIMENSIONS)))
    return Fixed(method, features, torch.from_numpy(rng.normal(0, 3, (experts, len(LABELS), 4))))


def loss(method, net, logged=None):
    batch = Batch(torch.zeros(len(LABELS), 1, 8, 8), torch.tensor(LABELS))
    log = (lambda name, value: None) if logged is None else logged.__setitem__
    where = torch.tensor(0.5), torch.tensor(0.5), torch.tensor(0.01)
    return method.loss(net, {"balanced": batch}, StepContext(*where, COUNTS, {}, {}, log))


# The target


def needed(right, label=0):
    """t of one image, from whether the mean of the first 1, 2, ... experts is right."""
    running = torch.tensor([[[1.0, 0.0]] if each else [[0.0, 1.0]] for each in right])
    return next_needed(running, torch.tensor([label]))[0].int().tolist()


@pytest.mark.parametrize(
    ("right", "target"),
    [
        ((0, 0), [0]),
        ((0, 1), [1]),
        ((1, 0), [0]),
        ((1, 1), [0]),
        ((0, 0, 0), [0, 0]),
        ((0, 0, 1), [1, 1]),
        ((0, 1, 0), [1, 0]),
        ((0, 1, 1), [1, 0]),
        ((1, 0, 0), [0, 0]),
        ((1, 0, 1), [0, 1]),
        ((1, 1, 0), [0, 0]),
        ((1, 1, 1), [0, 0]),
        ((0, 1, 0, 1), [1, 0, 1]),
        ((0, 0, 1, 0), [1, 1, 0]),
        ((0, 0, 0, 0), [0, 0, 0]),
    ],
    ids=str,
)
def test_the_target_of_every_pattern_of_right_and_wrong(right, target):
    assert needed(right) == target


def test_the_target_is_of_ensembles_not_of_single_experts():
    """The second expert alone is right; its mean with the first is not, so nothing is gained by going on."""
    first, second = torch.tensor([[0.0, 5.0]]), torch.tensor([[1.0, 0.0]])
    assert second.argmax() == 0
    assert not next_needed(running_means([first, second]), torch.tensor([0])).any()
    assert next_needed(running_means([first, 6 * second]), torch.tensor([0])).all()


def test_running_means_are_of_the_first_experts():
    logits = torch.arange(24.0).reshape(3, 2, 4) ** 2
    result = running_means(list(logits))
    for i in range(3):
        for b, k in itertools.product(range(2), range(4)):
            assert result[i, b, k].item() == pytest.approx(sum(z[b][k] for z in logits[: i + 1].tolist()) / (i + 1))
    assert torch.equal(result[-1], combine(list(logits)))


# The loss


def slow_scores(method, net, mistake=""):
    """s, one list per image, in Python's floats."""
    gates, experts = net.aux["gates"], len(net.logits)
    top, shared, bias = min(method.top_k, 4), gates.shared.weight[0].tolist(), gates.shared.bias.item()
    scores = []
    for b in range(len(LABELS)):
        row = []
        for i in range(experts - 1):
            number = 1 if mistake == "logits of one expert" else i + 1
            first = i if mistake == "logits of one expert" else 0
            mean = [sum(net.logits[j][b][k].item() for j in range(first, first + number)) / number for k in range(4)]
            feature = net.given[i][b].tolist()
            length = 1.0 if mistake == "features of any length" else math.sqrt(sum(x * x for x in feature))
            layer = gates.features[0 if mistake == "one layer for all experts" else i]
            hidden = [
                max(0.0, sum(w * x / length for w, x in zip(weights, feature, strict=True)) + shift)
                for weights, shift in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
            ]
            largest = mean[:top] if mistake == "the first logits" else sorted(mean, reverse=True)[:top]
            row.append(sum(w * x for w, x in zip(shared, largest + hidden, strict=True)) + bias)
        scores.append(row)
    return scores


def slow(method, net, mistake=""):
    """L in Python's floats."""
    scores, total, experts = slow_scores(method, net, mistake), 0.0, len(net.logits)
    for b, label in enumerate(LABELS):
        means = [[sum(z[b][k].item() for z in net.logits[:n]) / n for k in range(4)] for n in range(1, experts + 1)]
        right = [max(range(4), key=mean.__getitem__) == label for mean in means]
        for i in range(experts - 1):
            later = right[i + 1 : i + 2] if mistake == "the next expert alone" else right[i + 1 :]
            positive = not right[i] and any(later)
            p = 1 / (1 + math.exp(-scores[b][i]))
            total -= method.pos_weight * math.log(p) if positive else math.log(1 - p)
    return total / (len(LABELS) if mistake == "a sum over gates" else len(LABELS) * (experts - 1))


METHODS = [RideRouting(), RideRouting(top_k=2), RideRouting(top_k=4, pos_weight=1.0)]


@pytest.mark.parametrize("experts", [2, 3, 4])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_loss_and_its_gradient_follow_the_equation(method, experts):
    net = fixed(method, experts)
    result = loss(method, net)
    assert result.item() == pytest.approx(slow(method, net), rel=1e-9)
    result.backward()
    for parameter in net.aux.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), 7):
            ends, value = [], flat[place].item()
            for end in (1e-6, -1e-6):
                flat[place] = value + end
                ends.append(slow(method, net))
            flat[place] = value
            assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-7)


MISTAKES = [
    "logits of one expert",
    "features of any length",
    "one layer for all experts",
    "the first logits",
    "the next expert alone",
    "a sum over gates",
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen(mistake):
    method = RideRouting(top_k=2)
    net = fixed(method, 4)
    if mistake == "the next expert alone":  # an image that the third expert corrects, not the second
        net.logits[:, 0] = 0.0
        net.logits[:, 0, 1] = torch.tensor([1.0, 1.0, -9.0, 0.0])
    result = loss(method, net).item()
    assert result == pytest.approx(slow(method, net), rel=1e-9)
    assert result != pytest.approx(slow(method, net, mistake), rel=1e-4)


def test_with_pos_weight_one_it_is_binary_cross_entropy():
    method = RideRouting(pos_weight=1.0)
    net = fixed(method)
    scores = torch.tensor(slow_scores(method, net), dtype=torch.float64)
    targets = next_needed(running_means(list(net.logits)), torch.tensor(LABELS)).double()
    assert 0 < targets.sum() < targets.numel()
    expected = torch.nn.functional.binary_cross_entropy(scores.sigmoid(), targets)
    torch.testing.assert_close(loss(method, net), expected)
    assert loss(RideRouting(), net) > 5 * expected


def test_the_loss_reaches_the_gates_alone():
    method, net = RideRouting(), fixed(RideRouting())
    net.given.requires_grad_()
    net.logits.requires_grad_()
    loss(method, net).backward()
    assert net.given.grad is net.logits.grad is None
    assert all(parameter.grad is not None for parameter in net.aux.parameters())


def test_experts_in_bf16_are_read_in_fp32():
    method, net = RideRouting(), fixed(RideRouting())
    net.aux.float()
    net.given, net.logits = net.given.bfloat16(), net.logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(method, net)
        combined, branches = method.predict(net, torch.zeros(6, 1, 8, 8))
    net.given, net.logits = net.given.float(), net.logits.float()
    assert half.dtype == combined.dtype == branches[0].dtype == torch.float32
    assert torch.equal(half, loss(method, net))
    assert torch.equal(combined, method.predict(net, torch.zeros(6, 1, 8, 8))[0])


# The gates at test time


@pytest.mark.parametrize(
    ("gates", "used"),
    [((0, 0, 0), 1), ((0, 1, 1), 1), ((1, 0, 1), 2), ((1, 1, 0), 3), ((1, 1, 1), 4), ((0,), 1), ((1,), 2)],
    ids=str,
)
def test_an_image_stops_at_its_first_shut_gate(gates, used):
    result = experts_used(torch.tensor([gates, gates]).bool())
    assert (result.tolist(), result.dtype) == ([used, used], torch.int64)


def test_an_image_is_predicted_by_the_experts_that_it_uses():
    method = RideRouting(top_k=2)
    net = fixed(method, 4)
    net.aux["gates"].shared.bias.data -= np.median(slow_scores(method, net))
    images = torch.zeros(len(LABELS), 1, 8, 8)
    combined, branches = method.predict(net, images)
    logged = {}
    loss(method, net, logged=logged)
    numbers = []
    for b, row in enumerate(slow_scores(method, net)):
        closed = [i for i, score in enumerate(row) if 1 / (1 + math.exp(-score)) <= 0.5]
        numbers.append(closed[0] + 1 if closed else 4)
        torch.testing.assert_close(combined[b], net.logits[: numbers[-1], b].mean(0))
    assert len(set(numbers)) > 1
    assert method.assigned(net, images).tolist() == numbers
    assert logged["experts"].item() == pytest.approx(sum(numbers) / len(numbers))
    assert all(map(torch.equal, branches, net.logits))


def test_open_gates_are_the_parents_prediction_and_closed_ones_the_first_experts():
    method, images = RideRouting(), torch.rand(5, 1, 8, 8)
    torch.manual_seed(0)
    spec = method.net_spec(Ride(4).net_spec())
    net = ResNet("resnet8", spec, 4, [0.5], [0.2]).eval()
    net.aux.update(method.aux_modules(COUNTS, spec))
    for bias, expected, number in ((1e6, Ride(4).predict(net, images)[0], 4), (-1e6, net(images)[0], 1)):
        net.aux["gates"].shared.bias.data.fill_(bias)
        combined, branches = method.predict(net, images)
        assert torch.equal(combined, expected)
        assert method.assigned(net, images).tolist() == [number] * 5
        assert all(map(torch.equal, branches, net(images)))


# The parent, the settings, a run


def test_the_gates_fit_the_parents_network():
    for parent in (Ride(2).net_spec(), Ride(4).net_spec(), NetSpec(("conventional", "rebalancing"), head="joint")):
        assert RideRouting().net_spec(parent) == parent
        gates = RideRouting().aux_modules(torch.ones(100), parent)["gates"]
        assert len(gates.features) == len(parent.branches) - 1
        assert gates.features[0].weight.shape == (16, parent.widths[-1])
        assert gates.shared.weight.shape == (1, 16 + 30)
    few = RideRouting().aux_modules(torch.ones(10), Ride(2).net_spec())["gates"]
    assert few.shared.weight.shape == (1, 16 + 10)
    many = RideRouting().aux_modules(torch.ones(100), Ride(4).net_spec()._replace(widths=(16, 24, 4800)))["gates"]
    assert many.features[0].weight.std().item() == pytest.approx((2 / 4800) ** 0.5, rel=0.02)  # Kaiming, as the code


@pytest.mark.parametrize("parent", [{}, {"method": "ride", "experts": 1}], ids=str)
def test_a_parent_with_one_branch_is_refused(parent):
    made = recipe("digits", ratio=60.0, **parent)
    with pytest.raises(RequestError, match="one branch") as caught:
        recipe("digits", "ride_routing", parents={"weights": made})
    assert len(str(caught.value).splitlines()) == 3


def test_on_the_command_line_too(run, refused):
    code, out, _ = run("train", "--dataset", "digits", "--ratio", 60, "--epochs", 1, "--out", "runs", "--json")
    assert code == 0
    printed = refused("train", "--method", "ride_routing", "--set", f"parent={json.loads(out)['key']}", "--out", "runs")
    assert "ride_routing on a parent with one branch" in printed


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"pos_weight": 0.0}, {"pos_weight": math.inf}], ids=str)
def test_bad_values_are_refused(settings):
    with pytest.raises(RequestError, match=next(iter(settings))):
        RideRouting(**settings)


def test_the_recipe_is_that_of_the_code():
    parent = recipe("cifar100", "ride", preset="published", experts=4)
    made = recipe("cifar100", "ride_routing", parents={"weights": parent})
    assert (made.epochs, made.batch, made.lr, made.weight_decay) == (5, 512, 0.01, 5e-4)
    assert (made.schedule, made.nesterov, made.warmup, made.rotation) == ("cosine", True, 0.0, 15.0)
    published = recipe("cifar100", "ride_routing", preset="published", parents={"weights": parent})
    assert published == made
    assert departures(made, preset="published").keys() == {"parent experts"}
    assert {"parent lr_decay", "parent rotation"} <= departures(made).keys()


def test_the_row_of_the_rivals_starts_from_that_of_the_experts():
    cells = {cell.row.label: cell for cell in RIVALS.cells() if cell.column.label == "all"}
    (routed, *_), (experts, *_) = cells["ride-3-routed"].recipes, cells["ride-3"].recipes
    assert routed.parents == {"weights": experts}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_a_run_trains_the_gates_alone_and_its_savings_can_be_counted(small, images, folder):
    parent = small(method="ride", experts=3, epochs=6)
    before = fit(parent, images, out=folder)
    made = recipe("made_up", "ride_routing", parents={"weights": parent}, pos_weight=1.0)
    trained = fit(made, images, out=folder)
    assert (made.epochs, made.batch) == (5, 512)  # larger than the training set: one step an epoch
    assert len(trained.history["experts"]) == 5
    assert all(1 <= mean <= 3 for mean in trained.history["experts"])
    old, new = (checkpoint.load_weights(run.weights_path, run.weights["sha256"]) for run in (before, trained))
    assert {name for name in new if name.startswith("aux.gates.")} == new.keys() - old.keys()
    assert all(torch.equal(value, new[name]) for name, value in old.items())  # running statistics too
    assert trained.result["branches"] == before.result["branches"]
    net = network.trained(made, new, images, torch.device("cpu"))
    pixels = torch.from_numpy(images.test_images).permute(0, 3, 1, 2).float() / 255
    used = made.method.assigned(net, pixels)
    assert len(used) == len(images.test_labels)
    logits = predict(made.method, net, images.test_images, torch.device("cpu"))
    for row, number in enumerate(used.tolist()):
        mean = sum(branch[row] for branch in logits.branches[:number]) / number
        np.testing.assert_allclose(logits.combined[row], mean, rtol=1e-4, atol=1e-4)
    assert json.loads(trained.path.read_text())["recipe"]["method"]["pos_weight"] == 1.0


def test_the_gates_start_fresh_and_nothing_else_is_trained(small, images, folder):
    parent = small(method="ride", experts=3, epochs=6)
    fit(parent, images, out=folder)
    made = recipe("made_up", "ride_routing", parents={"weights": parent})
    state = TrainState(made, images, folder, torch.device("cpu"))
    state.start_epoch()
    assert {name for name, p in state.net.named_parameters() if p.requires_grad} == {
        name for name, _ in state.net.named_parameters() if name.startswith("aux.gates.")
    }
    modes = {type(module).__name__: module.training for module in state.net.modules()}
    assert (modes["BatchNorm"], modes["Gates"]) == (False, True)
