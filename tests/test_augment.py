"""Crop, flip and rotation against torchvision on the same random draws, and the draws themselves."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from lt_repro.data import augment
from lt_repro.data.normalise import channel_statistics
from lt_repro.data.samplers import generator
from lt_repro.errors import RequestError
from lt_repro.papers.dbn_mix.settings import recipe
from lt_repro.train.batches import draw_epoch, load_batches, make_sources


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(
    ("size", "channels", "padding"), [((32, 32), 3, 4), ((8, 8), 1, 1), ((9, 6), 3, 5), ((8, 8), 1, 0)]
)
def test_crop_and_flip_equal_torchvision(size, channels, padding, mode):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (20, *size, channels), dtype=np.uint8))
    index = torch.from_numpy(rng.integers(0, 20, 64))
    top, left = torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, 64)))
    flip = torch.from_numpy(rng.random(64) < 0.5)
    result = augment.crop_flip(augment.pad(images, padding, mode), index, top, left, flip, padding)
    assert result.shape == (64, channels, *size)
    assert result.dtype == torch.float32
    for b in range(64):
        frame = {"zero": "constant"}.get(mode, mode)
        image = functional.pad(images[index[b]].permute(2, 0, 1), [padding] * 4, padding_mode=frame)
        image = functional.crop(image, int(top[b]), int(left[b]), *size)
        image = functional.hflip(image) if flip[b] else image
        assert torch.equal(result[b], functional.convert_image_dtype(image, torch.float32))


def test_streams_are_pure_functions_of_seed_name_and_epoch():
    first = generator(3, "uniform", 5).random(4)
    assert np.array_equal(first, generator(3, "uniform", 5).random(4))
    others = [generator(4, "uniform", 5), generator(3, "reverse", 5), generator(3, "uniform", 6)]
    assert not any(np.array_equal(first, other.random(4)) for other in others)


def test_statistics_shared_own_and_measured():
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    assert channel_statistics("cifar100", "shared", images)[0] == (0.4914, 0.4822, 0.4465)
    assert channel_statistics("cifar100", "own", images)[1] == (0.2675, 0.2565, 0.2761)
    assert channel_statistics("cifar100", "own", images)[0] == (0.5071, 0.4867, 0.4408)
    assert channel_statistics("cifar10", "own", images)[1] == (0.2471, 0.2435, 0.2616)
    mean, std = channel_statistics("made_up", "own", images)
    np.testing.assert_allclose(mean, images.astype(float).mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(std, images.astype(float).std((0, 1, 2)) / 255)
    assert channel_statistics("made_up", "own", np.zeros((3, 8, 8, 1), np.uint8)) == ((0.0,), (1 / 255,))
    with pytest.raises(RequestError, match="grey"):
        channel_statistics("digits", "shared", images[..., :1])


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (9, 6)])
def test_rotation_equals_torchvision(size):
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand((40, 3, *size), generator=drawn)
    angles = torch.empty(40).uniform_(-180, 180, generator=drawn)
    result = augment.rotate(images, angles)
    for b in range(40):
        assert torch.equal(result[b], functional.rotate(images[b], float(angles[b])))
    assert not torch.equal(result, augment.rotate(images, -angles))
    assert torch.equal(augment.rotate(images, torch.zeros(40)), images)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_rotation_has_a_stream_for_each_sampler_and_changes_no_other_draw(images, small):
    plain = small(branches=2)
    turned = plain.replace(rotation=15.0)
    sources = make_sources(images, plain, torch.device("cpu"))
    without, drawn = (draw_epoch(made, sources, 1, torch.device("cpu")) for made in (plain, turned))
    for before, after in zip(without.drawn, drawn.drawn, strict=True):
        assert before.angle is None
        assert after.angle.dtype == torch.float32
        expected = generator(0, f"{after.sampled.name}/rotation", 1).uniform(-15, 15, len(after.chosen))
        np.testing.assert_allclose(after.angle, expected, rtol=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(before[3:], after[3:], strict=True))
    (left, _), (right, _) = (load_batches(inputs, sources, 1, plain.crop) for inputs in (without, drawn))
    for (name, batch), inputs in zip(left.items(), drawn.drawn, strict=True):
        size = len(batch.labels)
        assert torch.equal(right[name].images, augment.rotate(batch.images, inputs.angle[inputs.size :][:size]))
        assert not torch.equal(right[name].images, batch.images)
        assert torch.equal(right[name].labels, batch.labels)


def test_rotation_is_part_of_a_recipe_only_where_it_is_set(small):
    plain = small()
    assert "rotation" not in plain.to_json()
    assert plain.replace(rotation=15.0).to_json()["rotation"] == 15.0
    assert plain.replace(rotation=15.0).key() != plain.key()
    stage = recipe("made_up", "crt", parents={"features": small(rotation=15.0)})
    assert stage.rotation == 15.0  # a second stage sees what its parent saw
    for wrong in (-1.0, 181.0):
        with pytest.raises(RequestError, match="rotation"):
            small(rotation=wrong)
