"""Our transformer stacks are torch's own, and our dropout is dropout."""

import pytest
import torch
from torch import Tensor, nn

from model import layers
from model.layers import DecoderStack, EncoderStack, dropout

SERIES, LENGTH, MEMORY, WIDTH, HEADS = 5, 7, 6, 16, 4


@pytest.fixture(params=["oneDNN", "torch", "one series a chunk"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test holds with each kind of matrix product, and with the batch in parts."""
    if request.param == "torch":
        monkeypatch.setattr(layers, "ONEDNN", False)
    if request.param == "one series a chunk":
        monkeypatch.setattr(layers, "CHUNK", 1)


def pair(kind: str, p: float) -> tuple[nn.Module, nn.Module]:
    """Our stack and torch's with the same weights, none of them at its initial 0 or 1."""
    torch.manual_seed(0)
    ours: nn.Module
    if kind == "encoder":
        ours, layer = EncoderStack(WIDTH, HEADS, 2, p), nn.TransformerEncoderLayer
    else:
        ours, layer = DecoderStack(WIDTH, HEADS, 2, p), nn.TransformerDecoderLayer
    stack = nn.TransformerEncoder if kind == "encoder" else nn.TransformerDecoder
    theirs = stack(layer(WIDTH, HEADS, 4 * WIDTH, p, activation="gelu", batch_first=True), 2)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def inputs(kind: str) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    if kind == "encoder":
        return [torch.randn(SERIES, LENGTH, WIDTH, generator=g).requires_grad_()]
    query = torch.randn(1, LENGTH, WIDTH, generator=g).requires_grad_()
    return [query, torch.randn(SERIES, MEMORY, WIDTH, generator=g).requires_grad_()]


def run(stack: nn.Module, kind: str, repeat: bool) -> tuple[Tensor, list[Tensor]]:
    """The output, and a quadratic loss's gradients for inputs and weights."""
    given = inputs(kind)
    passed = [given[0].expand(SERIES, -1, -1), *given[1:]] if repeat else given
    out = stack(*passed)
    leaves = [*given, *stack.parameters()]
    return out.detach(), list(torch.autograd.grad((out * out.detach().cos()).sum(), leaves))


@pytest.mark.parametrize("mode", ["training without dropout", "evaluation"])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_stack_equals_torchs_own_in_outputs_and_gradients(kind: str, mode: str) -> None:
    ours, theirs = pair(kind, 0.0 if mode.startswith("training") else 0.5)
    for stack in (ours, theirs):
        stack.train(mode.startswith("training"))
    found, grads = run(ours, kind, repeat=False)
    expected, expected_grads = run(theirs, kind, repeat=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max() + 1))
    with torch.no_grad():
        torch.testing.assert_close(ours(*inputs(kind)), expected, rtol=1e-5, atol=1e-5)


def test_initial_weights_are_torchs_own() -> None:
    torch.manual_seed(3)
    ours = EncoderStack(WIDTH, HEADS, 2, 0.1).state_dict()
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.1, activation="gelu", batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_dropout_acts_at_as_many_places_as_in_torchs_layers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place at a time: with p = 1 everything there is lost, and both stacks lose the same."""
    places = {m for m, _ in pair(kind, 0.0)[0].named_modules() if "dropout" in m or m.endswith("attn")}
    assert len(places) == 2 * (4 if kind == "encoder" else 6)
    monkeypatch.setattr(layers, "dropout", lambda x, p: torch.nn.functional.dropout(x, p))
    for place in places:
        results = []
        for stack in pair(kind, 0.0):
            where = stack.get_submodule(place)
            setattr(where, "p" if isinstance(where, nn.Dropout) else "dropout", 1.0)
            given = inputs(kind)
            repeat = not isinstance(stack, EncoderStack | DecoderStack) and kind == "decoder"
            results.append(stack(given[0].expand(SERIES, -1, -1), given[1]) if repeat else stack(*given))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_part_of_each_lane_and_scales_it(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((400, 1000), 3.0)
    y = dropout(x, p)
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 3 / (1 - p)))
    deviation = (p * (1 - p)) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - p)) < 4 * deviation / x.numel() ** 0.5
    for lane in range(4):  # four elements share one 64-bit number
        part = kept.flatten()[lane::4].float()
        assert abs(float(part.mean()) - (1 - p)) < 4 * deviation / len(part) ** 0.5
    for lag in (1, 2, 3, 4, 1000):  # and know nothing of each other
        a = kept.flatten().float() - (1 - p)
        assert abs(float((a[lag:] * a[:-lag]).mean())) < 4 * deviation**2 / x.numel() ** 0.5


def test_the_gradient_passes_exactly_where_an_element_was_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(33, 7).requires_grad_()
    y = dropout(x, 0.3)
    g = torch.randn(33, 7)
    y.backward(g)
    torch.testing.assert_close(x.grad, torch.where(y != 0, g / 0.7, 0.0))


def test_dropout_hangs_on_torchs_seed_alone() -> None:
    ours, _ = pair("decoder", 0.3)
    given = inputs("decoder")

    def under(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return ours(*given)

    assert torch.equal(under(1), under(1))
    assert not torch.equal(under(1), under(2))


def test_series_that_share_queries_do_not_share_masks() -> None:
    ours, _ = pair("decoder", 0.3)
    query, memory = inputs("decoder")
    out = ours(query, memory[:1].expand(SERIES, -1, -1))
    assert all(not torch.equal(out[i], out[j]) for i in range(SERIES) for j in range(i))


def test_without_dropout_or_in_evaluation_no_random_number_is_drawn() -> None:
    for p, training in ((0.0, True), (0.5, False)):
        ours, _ = pair("decoder", p)
        before = torch.random.get_rng_state()
        ours.train(training)(*inputs("decoder"))
        assert torch.equal(torch.random.get_rng_state(), before)


def test_double_precision_gradients_match_finite_differences() -> None:
    ours, _ = pair("decoder", 0.0)
    ours.double()
    given = tuple(v.detach().double().requires_grad_() for v in inputs("decoder"))
    assert torch.autograd.gradcheck(ours, given, fast_mode=True)
