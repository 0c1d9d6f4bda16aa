"""Crop and flip against torchvision on the same random draws, and the draws themselves."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from lt_repro.data import augment
from lt_repro.data.normalise import channel_statistics
from lt_repro.data.samplers import generator
from lt_repro.errors import RequestError


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
    found = augment.crop_flip(augment.pad(images, padding, mode), index, top, left, flip, padding)
    assert found.shape == (64, channels, *size)
    assert found.dtype == torch.float32
    for b in range(64):
        frame = {"zero": "constant"}.get(mode, mode)
        image = functional.pad(images[index[b]].permute(2, 0, 1), [padding] * 4, padding_mode=frame)
        image = functional.crop(image, int(top[b]), int(left[b]), *size)
        image = functional.hflip(image) if flip[b] else image
        assert torch.equal(found[b], functional.convert_image_dtype(image, torch.float32))


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
