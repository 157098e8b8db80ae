"""Decoding code by code equals decoding token by token."""

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


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("smoothing", [1, 5])
def test_the_jacobian_equals_reverse_mode(smoothing: int, axes: int) -> None:
    module = decoder(smoothing, axes, torch.float64)
    z_IC = torch.randn(3, 8, dtype=torch.float64)
    expected = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: module(z[None])[0], z_C) for z_C in z_IC]
    )
    close(module.jacobian(z_IC), expected)


def both_ways(module: ShapeDecoder, differentiable: bool, code_BK: Tensor) -> list[list[Tensor]]:
    """Code by code and token by token: the shapes, then the gradients of z before it is quantised (where
    `differentiable`) and of every weight that has one."""
    dtype = next(module.parameters()).dtype
    codes_NC = torch.randn(12, 8, dtype=dtype)
    weight_BKAS = torch.randn(*code_BK.shape, module.layers[-1].out_channels, 32, dtype=dtype)
    found = []
    for by_code in (True, False):
        leaf = (codes_NC[code_BK] + 0.1).requires_grad_(differentiable)
        z_BKC = leaf + (codes_NC[code_BK] - leaf).detach()
        module.zero_grad()
        s_BKAS = module.by_code(z_BKC, code_BK, codes_NC) if by_code else module.decode(z_BKC, None, None)
        (s_BKAS * weight_BKAS).sum().backward()
        # Standardising cancels the last bias: its gradient is 0, and what is computed is rounding.
        leaves = [leaf, *module.parameters()][:-1]
        gradients = [v.grad for v in leaves if v.grad is not None]
        found.append([s_BKAS.detach(), *(g.clone() for g in gradients)])
    return found


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("smoothing", [1, 5])
@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_shapes_and_gradients_code_by_code_equal_token_by_token(
    dtype: torch.dtype, smoothing: int, axes: int, differentiable: bool, frozen: bool
) -> None:
    if frozen and not differentiable:
        pytest.skip("nothing has a gradient")
    module = decoder(smoothing, axes, dtype).requires_grad_(not frozen)
    code_BK = torch.randint(0, 12, (40, 30))  # more tokens than are taken at a time
    fast, slow = both_ways(module, differentiable, code_BK)
    weights = 0 if frozen else len(list(module.parameters())) - 1
    assert len(fast) == len(slow) == 1 + differentiable + weights
    for a, b in zip(fast, slow, strict=True):
        close(a, b)
