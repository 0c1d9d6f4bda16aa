"""Crop, flip and rotation for whole batches, on the device. No worker processes, no PIL."""

from typing import Literal

import torch
from torch import Tensor


def pad(images: Tensor, padding: int, mode: Literal["zero", "reflect"] = "zero") -> Tensor:
    """Returns the images with a border, as torchvision's RandomCrop pads them.

    Args:
        images: (N, H, W, C) uint8.
        padding: Pixels on every side; less than H and W with "reflect".
        mode: "zero" adds black pixels, "reflect" mirrors the image at its edge pixels.

    Returns:
        (N, H + 2 padding, W + 2 padding, C) uint8.
    """
    if mode == "zero":
        return torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
    rows, columns = (_mirrored(side, padding, images.device) for side in images.shape[1:3])
    return images[:, rows][:, :, columns]


def _mirrored(side: int, padding: int, device: torch.device) -> Tensor:
    """Returns the source row or column of each row or column of the padded image, (side + 2 padding,)."""
    place = torch.arange(-padding, side + padding, device=device).abs()
    return torch.where(place < side, place, 2 * (side - 1) - place)


def crop_flip(padded: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Returns one batch, cropped to the original size and flipped left to right where `flip` is set.

    Args:
        padded: (N, H + 2p, W + 2p, C) uint8, made by `pad`.
        index: (B,) image indices.
        top: (B,) first row of the crop, 0 to 2p.
        left: (B,) first column of the crop, 0 to 2p.
        flip: (B,) bool; the flip comes after the crop.
        padding: p, in pixels.

    Returns:
        (B, C, H, W) float32 in [0, 1], stored channels last.
    """
    height, width = padded.shape[1] - 2 * padding, padded.shape[2] - 2 * padding
    rows = top[:, None] + torch.arange(height, device=padded.device)
    across = torch.arange(width, device=padded.device)
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - across, across)
    batch = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return as_input(batch)


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Returns images turned about their centre: each pixel is the nearest one of the original, black where none is.

    Args:
        images: (B, C, H, W).
        angle: (B,), floating point, in degrees, counter-clockwise.

    Returns:
        (B, C, H, W), stored channels last.
    """
    sides = images.shape[2:]
    y, x = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in sides)
    cos, sin = (turn[:, None, None] for turn in (angle.deg2rad().cos(), angle.deg2rad().sin()))
    rows, columns = cos * y[:, None] + sin * x, cos * x - sin * y[:, None]
    rows, columns = ((at + (side - 1) / 2).round().long() for at, side in zip((rows, columns), sides, strict=True))
    inside = (rows >= 0) & (rows < sides[0]) & (columns >= 0) & (columns < sides[1])
    image = torch.arange(len(images), device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[image, rows.clamp(0, sides[0] - 1), columns.clamp(0, sides[1] - 1)]
    return (picked * inside[..., None]).permute(0, 3, 1, 2)


def as_input(images: Tensor) -> Tensor:
    """Returns uint8 images (B, H, W, C) as (B, C, H, W) float32 in [0, 1], stored channels last."""
    return images.permute(0, 3, 1, 2).float() / 255
