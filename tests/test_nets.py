"""The network: size, branches, where they part, what BatchNorm sees."""

import copy

import pytest
import torch
from torch import nn

from lt_repro.errors import RequestError
from lt_repro.nets.batchnorm import BatchNorm
from lt_repro.nets.resnet_cifar import BLOCKS, ResNet
from lt_repro.nets.spec import NetSpec

TWO = ("conventional", "rebalancing")


def net(name="resnet8", branches=TWO, branch_at="block", head="linear", bn="per_branch", classes=4):
    torch.manual_seed(0)
    return ResNet(name, NetSpec(branches, branch_at, head, bn), classes, [0.5], [0.25])


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_resnet32_has_464_154_parameters():
    single = ResNet("resnet32", NetSpec(), 10, [0.5] * 3, [0.25] * 3)
    assert parameters(single) == 464_154  # 0.46 M, He et al. 2016, Table 6
    assert sum(isinstance(m, nn.Conv2d) for m in single.modules()) == 31


@pytest.mark.parametrize(("branch_at", "blocks"), [("block", 1), ("layer3", 5), ("layer2", 10)])
def test_branches_part_where_the_spec_says(branch_at, blocks):
    single, dual = net("resnet32", ("single",), branch_at), net("resnet32", TWO, branch_at)
    assert len(dual.branches[0]) - 1 == blocks  # and the pool
    assert parameters(dual) - parameters(single) == parameters(single.branches) + parameters(single.heads)
    assert parameters(single) == parameters(net("resnet32", ("single",), "block"))


def test_every_branch_has_weights_of_its_own():
    dual = net()
    first, second = dual.branches[0].state_dict(), dual.branches[1].state_dict()
    assert not torch.equal(first["0.conv1.weight"], second["0.conv1.weight"])
    assert not torch.equal(dual.heads[0].weight, dual.heads[1].weight)


def test_one_batch_per_branch_or_one_for_all():
    dual = net().eval()
    x, y = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    (c, _), (_, r) = dual(x), dual(y)
    torch.testing.assert_close(dual([x, y]), [c, r])
    assert c.shape == (3, 4)


def test_shortcut_subsamples_and_pads_with_zeros():
    block = net().branches[0][0]
    assert (block.stride, block.before, block.after) == (2, 16, 16)
    for layer in (block.conv1, block.conv2):
        nn.init.zeros_(layer.weight)
    block.eval()
    x = torch.rand(2, 32, 4, 4)
    out = block(x)
    torch.testing.assert_close(out[:, 16:48], x[:, :, ::2, ::2])
    assert not out[:, :16].any()
    assert not out[:, 48:].any()


def test_batchnorm_per_branch_normalises_each_batch_on_its_own():
    x, y = torch.rand(8, 1, 8, 8), 0.2 * torch.rand(8, 1, 8, 8)
    separate, alone = net().train(), net().train()
    torch.testing.assert_close(separate([x, y])[1], alone([y, y])[1])
    joint, by_hand = net(bn="joint").train(), net(bn="joint").train()
    shared = by_hand.trunk(torch.cat([x, y]))
    expected = [by_hand.heads[i](by_hand.branches[i](half)) for i, half in enumerate((shared[:8], shared[8:]))]
    torch.testing.assert_close(joint([x, y]), expected)
    assert not torch.allclose(expected[1], alone([y, y])[1])


def test_running_statistics_are_updated_by_both_conventional_first():
    x, y = torch.rand(8, 1, 8, 8), 0.2 * torch.rand(8, 1, 8, 8)
    dual, by_hand = net().train(), net().train()
    dual([x, y])
    by_hand.trunk(x)
    by_hand.trunk(y)
    for (name, result), expected in zip(
        dual.trunk.state_dict().items(), by_hand.trunk.state_dict().values(), strict=True
    ):
        assert torch.equal(result, expected), name
    swapped = net().train()
    swapped([y, x])
    assert not torch.equal(swapped.trunk[2].running_mean, dual.trunk[2].running_mean)


def filled(layer, parts=1):
    """Returns the layer in float64 with weights that are not 1 and biases that are not 0."""
    drawn = torch.Generator().manual_seed(1)
    layer = layer.double()
    for tensor in (layer.weight.data, layer.bias.data):
        tensor.copy_(torch.randn(len(tensor), generator=drawn))
    layer.parts = parts
    return layer


@pytest.mark.parametrize(("parts", "sizes"), [(2, (6, 6)), (3, (4, 4, 4)), (4, (3, 3, 3, 3)), (5, (3, 3, 3, 3))])
def test_batchnorm_in_parts_is_batchnorm_of_each_part_and_its_statistics_are_the_firsts(parts, sizes):
    """Two steps, by hand with a layer of torch's for each part; 12 images in 5 parts are 4 of 3, as torch.chunk has it.

    As `nn.DataParallel`: gradients of all, running statistics and the count of batches of the first.
    """
    layer, cards = filled(BatchNorm(5), parts), [filled(nn.BatchNorm2d(5)) for _ in sizes]
    for step in range(2):
        x = (
            torch.randn(12, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step)) * (step + 2)
            + 1
        )
        x, by_hand = x.clone().requires_grad_(), x.clone().requires_grad_()
        result = layer(x)
        expected = torch.cat([card(part) for card, part in zip(cards, by_hand.split(sizes), strict=True)])
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
        pull = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
        (result * pull).sum().backward()
        (expected * pull).sum().backward()
        torch.testing.assert_close(x.grad, by_hand.grad, rtol=1e-9, atol=1e-12)
    for name in ("weight", "bias"):
        total = sum(getattr(card, name).grad for card in cards)
        torch.testing.assert_close(getattr(layer, name).grad, total, rtol=1e-9, atol=1e-12)
    for name, value in cards[0].named_buffers():
        torch.testing.assert_close(layer.get_buffer(name), value, rtol=1e-12, atol=1e-12)
        assert not torch.equal(cards[1].get_buffer(name), value) or name == "num_batches_tracked"
    assert layer.num_batches_tracked == 2


def test_batchnorm_of_one_part_and_in_evaluation_is_torchs_bit_for_bit():
    single, torchs, halved = BatchNorm(5), nn.BatchNorm2d(5), BatchNorm(5)
    assert list(single.state_dict()) == list(torchs.state_dict())
    halved.parts = 2
    x = torch.randn(8, 5, 4, 4)
    expected = torchs(x)
    assert torch.equal(single(x), expected)
    assert not torch.allclose(halved(x), expected, atol=1e-3)
    assert all(torch.equal(single.get_buffer(name), value) for name, value in torchs.named_buffers())
    halved.load_state_dict(torchs.state_dict())
    y = torch.randn(3, 5, 4, 4)
    assert torch.equal(halved.eval()(y), torchs.eval()(y))
    assert torch.equal(single.eval()(y), torchs(y))


@pytest.mark.parametrize("branches", [("single",), TWO])
def test_a_network_in_parts_is_a_network_for_each_part_of_every_branchs_batch(branches):
    """Copies of the whole network, one a part: as several cards see it."""
    whole = net(branches=branches).train()
    cards = [copy.deepcopy(whole) for _ in range(2)]
    layers = [module for module in whole.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(isinstance(module, BatchNorm) for module in layers)
    for module in layers:
        module.parts = 2
    batches = [torch.rand(8, 1, 8, 8) * (number + 1) for number in range(len(branches))]
    result = whole(batches)
    halves = [card([x[4 * i : 4 * i + 4] for x in batches]) for i, card in enumerate(cards)]
    torch.testing.assert_close(result, [torch.cat(pair) for pair in zip(*halves, strict=True)])
    for (name, value), expected in zip(whole.named_buffers(), cards[0].buffers(), strict=True):
        torch.testing.assert_close(value, expected, msg=name)


def test_first_layer_normalises():
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(net().trunk[0](x), (x - 0.5) / 0.25)


def test_cosine_head_gives_scaled_cosines():
    head = net(head="cosine").heads[0]
    features = torch.randn(5, 64)
    cosines = nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(features), 30 * cosines)


def test_weights_begin_kaiming_normal():
    dual = net("resnet32")
    weight = dual.branches[0][0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_classifiers_begin_kaiming_normal_or_with_unit_vectors():
    linear, joint, cosine = (net("resnet32", head=head, classes=1000).heads for head in ("linear", "joint", "cosine"))
    assert linear[0].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert joint.linear.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    torch.testing.assert_close(cosine[0].weight.norm(dim=1), torch.ones(1000))
    assert cosine[0].weight.mean(dim=0).abs().max() < 0.02  # in every direction


def test_an_unknown_network_is_refused():
    with pytest.raises(RequestError, match="did you mean 'resnet32'"):
        net("resnet23")
    assert set(BLOCKS) >= {"resnet8", "resnet32"}
