"""Decoding code by code equals decoding token by token."""

import pytest
import torch
from torch import Tensor, nn

from model import shapes
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


@pytest.fixture(autouse=True)
def several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts so small that every test has several of them, the last not full."""
    monkeypatch.setattr(shapes, "CODES_AT_ONCE", 2)
    monkeypatch.setattr(shapes, "TOKENS_AT_ONCE", 7)


def test_up_sampling_at_the_low_resolution_equals_its_definition() -> None:
    torch.manual_seed(0)
    module, v = UpSample(6).double(), torch.randn(3, 6, 5, dtype=torch.float64)
    close(module(v), module.conv(v.repeat_interleave(4, dim=-1)))


Found = tuple[Tensor, list[Tensor]]


def run(module: ShapeDecoder, way: str, differentiable: bool) -> Found:
    """The shapes, and the gradients of z before quantisation (where `differentiable`) and of each weight."""
    dtype = next(module.parameters()).dtype
    draw = torch.Generator().manual_seed(1)
    codes_NC = torch.randn(5, 8, dtype=dtype, generator=draw)
    code_BK = torch.randint(0, 4, (6, 5), generator=draw)  # the last code never occurs
    leaf = (codes_NC[code_BK] + 0.1).requires_grad_(differentiable)
    z_BKC = leaf + (codes_NC[code_BK] - leaf).detach()
    s_BKAS = {
        "tokens": lambda: module.decode(z_BKC, None, None),
        "codes": lambda: module.by_code(z_BKC, code_BK, codes_NC),
        "cheaper": lambda: module.decode(z_BKC, code_BK, codes_NC),
    }[way]()
    if s_BKAS.requires_grad:
        module.zero_grad()
        s_BKAS.backward(torch.randn(s_BKAS.shape, dtype=dtype, generator=draw))
    # Standardising cancels the last bias: its gradient is 0, and what is computed is rounding.
    leaves = [leaf, *module.parameters()][:-1]
    return s_BKAS.detach(), [v.grad for v in leaves if v.grad is not None]


@pytest.mark.parametrize("way", ["codes", "cheaper"])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("smoothing", [1, 5])
@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("differentiable", [False, True])
def test_shapes_and_gradients_by_code_equal_token_by_token(
    way: str, dtype: torch.dtype, smoothing: int, axes: int, frozen: bool, differentiable: bool
) -> None:
    module = decoder(smoothing, axes, dtype).requires_grad_(not frozen)
    fast, fast_gradients = run(module, way, differentiable)
    slow, slow_gradients = run(module, "tokens", differentiable)
    close(fast, slow)
    weights = 0 if frozen else len(list(module.parameters())) - 1
    assert len(fast_gradients) == len(slow_gradients) == weights + differentiable
    for a, b in zip(fast_gradients, slow_gradients, strict=True):
        close(a, b)


def test_without_a_graph_each_code_that_occurs_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, decoded = decoder(1, 1, torch.float32), []
    module.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    monkeypatch.setattr(module, "jacobian", lambda _: pytest.fail("nothing needs it"))
    z_BKC = torch.randn(3, 1, 8).expand(-1, 4, -1).requires_grad_()
    with torch.no_grad():
        s_BKAS = module.decode(z_BKC, torch.tensor([[3], [1], [6]]).expand(-1, 4), codes := torch.randn(9, 8))
        close(s_BKAS, module(codes)[torch.tensor([[3] * 4, [1] * 4, [6] * 4])])
    assert decoded == [3, 9]


@pytest.mark.parametrize(("tokens", "decodes"), [(9, 9), (10, 2)])
def test_the_cheaper_way_depends_on_how_many_codes_occur(tokens: int, decodes: int) -> None:
    module, decoded = decoder(1, 1, torch.float32), []
    module.register_forward_hook(lambda _, inputs, __: decoded.append(len(inputs[0])))
    code_BK, codes_NC = torch.arange(tokens)[None] % 2, torch.randn(50, 8)
    module.decode(codes_NC[code_BK].requires_grad_(), code_BK, codes_NC)
    assert decoded == [decodes]


def test_a_flat_shape_has_a_gradient_of_zero_either_way() -> None:
    module = decoder(1, 1, torch.float32)
    torch.nn.init.zeros_(module.layers[9].weight)
    for way in (module.by_code, lambda z, code, codes: module(z.flatten(0, 1)).unflatten(0, code.shape)):
        codes_NC, code_BK = torch.randn(4, 8), torch.arange(4)[None]
        z_BKC = codes_NC[code_BK].requires_grad_()
        way(z_BKC, code_BK, codes_NC).sum().backward()
        assert z_BKC.grad is not None and (z_BKC.grad == 0).all()


def test_gradients_by_code_bear_an_autocast_that_sums_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's autocast does, the CPU's does not: the Jacobian would be float32 beside bfloat16 shapes."""
    plain = Tensor.sum
    monkeypatch.setattr(Tensor, "sum", lambda v, *a, **k: plain(v.float(), *a, **k))
    module, codes_NC, code_BK = decoder(1, 1, torch.float32), torch.randn(3, 8), torch.tensor([[0, 1, 2, 1]])
    z_BKC = codes_NC[code_BK].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        s_BKAS = module.by_code(z_BKC, code_BK, codes_NC)
        assert s_BKAS.dtype == torch.bfloat16
    s_BKAS.float().pow(3).mean().backward()
    assert z_BKC.grad is not None and z_BKC.grad.isfinite().all() and z_BKC.grad.abs().sum() > 0
