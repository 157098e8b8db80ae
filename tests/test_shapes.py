"""Decoding code by code equals decoding token by token."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from model.shapes import ShapeDecoder, UpSample

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def close(found: Tensor, expected: Tensor) -> None:
    """Equal to the tolerance of their precision, relative to the largest entry."""
    assert (found - expected).abs().max() <= TOLERANCE[found.dtype] * expected.abs().max()


def decoder(smoothing: int, axes: int, dtype: torch.dtype) -> ShapeDecoder:
    torch.manual_seed(0)
    found = ShapeDecoder(8, 32, smoothing, axes)
    for p in found.parameters():  # GroupNorm's weights start at 1 and biases at 0, which would hide them
        nn.init.normal_(p, p.mean().item(), 0.1)
    return found.to(dtype)


@pytest.mark.parametrize(("smoothing", "axes"), itertools.product([1, 5], [1, 3]))
def test_the_jacobian_equals_reverse_mode(smoothing: int, axes: int) -> None:
    module = decoder(smoothing, axes, torch.float64)
    z_IC = torch.randn(3, 8, dtype=torch.float64)
    expected = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: module(z[None])[0], z_C) for z_C in z_IC]
    )
    close(module.jacobian(z_IC), expected)
