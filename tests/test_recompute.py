"""Recomputed activations change what is kept for the backward pass, and no number."""

import copy
from typing import Any

import pytest
import torch
from guided_fixture import TWO_WAY, batch, build, concepts, full, losses, table
from torch import Tensor, nn

from model import layers
from model.config import FSQ_LEVELS
from model.guided import GuidedVQShape
from model.quantizer import QUANTIZERS
from model.recompute import InBlocks, recompute

CONTRAST = {"attention": "two_way", "merge": "contrast", "layers": 2}
GUIDED: list[dict[str, Any]] = [
    {"attention": "one_way"},
    {"attention": "one_way", "at": "patches"},
    CONTRAST,
    TWO_WAY,
    TWO_WAY | {"at": "patches", "layers": 2},
]


def trained(model: GuidedVQShape) -> list[Tensor]:
    """Losses and gradients of three steps, then weights, buffers and the state of random numbers."""
    torch.manual_seed(1)
    model.train()
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=0.01), []
    for step in range(3):
        optimizer.zero_grad()
        given = batch(model, seed=step)
        named = model.losses(given, table(), concepts())
        named["total"].backward()
        found += [value.detach() for value in named.values()]
        found += [torch.empty(0) if p.grad is None else p.grad.clone() for p in model.parameters()]
        optimizer.step()
    return [*found, *model.state_dict().values(), torch.get_rng_state()]


def equals_plain(model: GuidedVQShape) -> None:
    frugal = copy.deepcopy(model)
    recompute(frugal)
    plain = trained(model)
    assert all(bool(v.isfinite().all()) for v in plain)
    for a, b in zip(plain, trained(frugal), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("chunk", [layers.CHUNK, 1], ids=["whole batches", "one series a chunk"])
@pytest.mark.parametrize("onednn", [layers.ONEDNN, False], ids=["oneDNN", "torch"])
def test_three_steps_of_every_loss_are_the_same_bit_for_bit(
    chunk: int, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CHUNK", chunk)
    monkeypatch.setattr(layers, "ONEDNN", onednn)
    equals_plain(full(dropout=0.2, encoder_layers=2, tokenizer_layers=2))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_three_steps_are_the_same_with_every_quantizer(name: str) -> None:
    equals_plain(build({"ce_series": 0.5}, quantizer=name, codes=min(FSQ_LEVELS), dropout=0.2))


@pytest.mark.parametrize("guidance", GUIDED, ids=str)
def test_three_steps_are_the_same_with_every_guidance(guidance: dict[str, Any]) -> None:
    equals_plain(build({"info_nce": 0.5, "consistency": 0.5}, guidance=guidance, dropout=0.2))


@pytest.mark.parametrize("channels", ["joint", "flatten"])
def test_three_steps_are_the_same_with_all_channels_in_a_series(channels: str) -> None:
    equals_plain(full(channels=channels, dropout=0.2))


def test_three_steps_are_the_same_in_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        equals_plain(full(dropout=0.2))


def bytes_kept(model: nn.Module, loss: Any) -> int:
    """Of tensors that wait for the backward pass, each once and without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def note(v: Tensor) -> Tensor:
        storage = v.untyped_storage()
        found[storage.data_ptr()] = storage
        return v

    torch.manual_seed(0)  # dropout decides which codes are met, and so how many are decoded
    with torch.autograd.graph.saved_tensors_hooks(note, lambda v: v):
        loss(model)
    return sum(storage.nbytes() for place, storage in found.items() if place not in weights)


def test_a_fraction_of_the_bytes_waits_for_the_backward_pass() -> None:
    model = full(width=64, encoder_layers=4, tokenizer_layers=4)
    plain = bytes_kept(model, losses)
    recompute(model)
    assert bytes_kept(model, losses) < 0.2 * plain


def test_every_kind_of_block_keeps_less() -> None:
    """One kind at a time: one whose `run` went unused would save nothing."""
    plain = full(codes=64, width=64)
    kinds = {type(m) for m in plain.modules() if isinstance(m, InBlocks)}
    names = {"EncoderStack", "DecoderStack", "Head", "Codebook", "ShapeDecoder", "TwoWayMean"}
    assert {kind.__name__ for kind in kinds} == names
    for kind in kinds:
        frugal = copy.deepcopy(plain)
        for module in frugal.modules():
            if type(module) is kind:
                recompute(module)
        assert bytes_kept(frugal, losses) < bytes_kept(plain, losses), kind


def test_evaluation_and_the_weights_names_are_the_same() -> None:
    model = full()
    frugal = copy.deepcopy(model)
    recompute(frugal)
    x = batch(model).x
    expected, found = (m.eval().features(x, m.tokenize(x)) for m in (model, frugal))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert list(model.state_dict()) == list(frugal.state_dict())
