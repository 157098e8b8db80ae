"""Channels: apart, end to end, or sharing one stream of tokens; and what probes read of the tokens.

A axes of one series.
"""

import math

import numpy as np
import pytest
import torch
from guided_fixture import SIZES, SMALL, build, full, losses, side

from experiments import train
from experiments.baselines import statistics
from experiments.config import RunConfig
from experiments.texts import Text
from model.attributes import Attributes
from model.batch import Batch
from model.config import ModelConfig
from model.guided import GuidedVQShape
from model.patches import PatchDecoder, PatchEncoder
from model.quantizer import Quantized
from model.representations import Tokens, features, scale
from model.shapes import ShapeDecoder, cut

LEVELS = ("independent", "flatten", "joint")
ONE = SIZES._replace(channels=1)


def windows(count: int = 6, channels: int = 2, length: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, length, generator=torch.Generator().manual_seed(seed))


def step(model: GuidedVQShape, x_WMT: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses of one pass over every patch, each window of class 0."""
    zeros, series = torch.zeros(len(x_WMT), dtype=torch.long), len(x_WMT) * model.streams
    keep_BP = torch.arange(model.config.patches).expand(series, -1)
    return model.losses(Batch(x_WMT, zeros, keep_BP, zeros, zeros, zeros.bool()), None)


def test_a_channel_that_never_moves_in_training_is_shifted_and_not_scaled() -> None:
    x_WMT = windows(500)
    x_WMT[:, 1] = 9.81
    training = side(x_WMT, np.zeros(len(x_WMT), int))
    config = RunConfig.model_validate({"model": SMALL | {"normalize": "dataset"}})
    model = train.build(config, training, 3, Text())
    assert model.scale.dtype == model.offset.dtype == torch.float32
    assert model.scale.flatten().tolist() == [np.float32(x_WMT[:, 0].double().numpy().std()), 1]
    unseen = torch.full((1, 2, 24), 9.82)
    assert model.to_series(unseen)[1].abs().max() < 0.1


@pytest.mark.parametrize(
    ("channels", "series", "axes", "length"),
    [("independent", 12, 1, 24), ("flatten", 6, 1, 48), ("joint", 6, 2, 24)],
)
def test_what_a_model_makes_of_windows_has_a_shape_for_each_axis(
    channels: str, series: int, axes: int, length: int
) -> None:
    model = build(channels=channels).eval()
    x, tokens, steps, codes, shape = windows(), 4, 24, 8, 16
    found = model.tokenize(x)
    out = model.reconstruct(x, found)
    assert out.x_hat.shape == (series, axes, length) and out.s_hat.shape == (series, tokens, axes, shape)
    a = out.attributes
    assert a.mu.shape == a.sigma.shape == (series, tokens, axes)
    assert a.t.shape == a.l.shape == (series, tokens, 1) and a.z.shape == (series, tokens, 8)
    assert out.code is not None and out.code.shape == (series, tokens)
    assert model.to_series(x).shape == (series, axes, length) and math.prod(x.shape) == 6 * 2 * steps
    per_token = 8 + 2 + 2 * axes
    read = model.features(x, found)
    assert {name: tuple(value.shape) for name, value in read.items()} == {
        "tokens": (6, series // 6 * tokens * per_token),
        "tokens_ze": (6, series // 6 * tokens * per_token),
        "pooled": (6, series // 6 * 2 * per_token),
        "histogram": (6, series // 6 * codes),
    }


def test_a_series_is_cut_from_its_window_channel_by_channel_end_to_end_or_together() -> None:
    x = windows()
    apart, ends, joint = (build(channels=channels).to_series(x) for channels in LEVELS)
    assert torch.equal(apart[3, 0], x[1, 1])
    assert torch.equal(ends[1, 0], torch.cat([x[1, 0], x[1, 1]]))
    assert torch.equal(joint, x)


def test_a_patch_reads_and_a_token_writes_its_own_part_of_every_axis() -> None:
    x_BAT = windows(3, 2, 12)
    encoder, decoder = PatchEncoder(2, 4, 3, 6, 1, 1, 0.0), PatchDecoder(2, 3, 6, 1, 1, 0.0)
    with torch.no_grad():  # linear layers that copy, and nothing else between input and output
        for layer in (encoder.input_project, decoder.out_layer):
            layer.weight.copy_(torch.eye(6))
            layer.bias.zero_()
        encoder.pos_embed.positional_embeddings.weight.zero_()
        encoder.transformer = decoder.transformer = torch.nn.Identity()
        p_BPD = encoder(x_BAT, None)
        assert torch.equal(p_BPD[1, 2], torch.cat([x_BAT[1, 0, 6:9], x_BAT[1, 1, 6:9]]))
        assert torch.equal(encoder(x_BAT, torch.tensor([[3, 0]] * 3)), p_BPD[:, [3, 0]])
        assert torch.equal(decoder(p_BPD), x_BAT)


def test_every_axis_of_joint_series_is_standardised_rebuilt_and_normalised_on_its_own() -> None:
    model = build(channels="joint", normalize="instance").eval()
    x = windows()
    other = torch.cat([x[:, :1], 10 * x[:, 1:] + 3], dim=1)
    found, moved = (model.reconstruct(v, model.tokenize(v)) for v in (x, other))
    torch.testing.assert_close(found.x_hat[:, 0], moved.x_hat[:, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(10 * found.x_hat[:, 1] + 3, moved.x_hat[:, 1], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(10 * found.s_hat[:, :, 1] + 3, moved.s_hat[:, :, 1], rtol=1e-3, atol=1e-2)
    model.standardize(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]]))
    torch.testing.assert_close(model.to_series(x)[:, 1], (x[:, 1] - 2) / 4)


def test_flatten_equals_a_model_of_one_channel_on_the_series_end_to_end() -> None:
    flat = build(channels="flatten")
    long = build(sizes=SIZES._replace(channels=1, length=48))
    x = windows()
    for one, other in zip(flat.core.parameters(), long.core.parameters(), strict=True):
        assert torch.equal(one, other)
    found = []
    for model, v in ((flat, x), (long, x.reshape(6, 1, 48))):
        torch.manual_seed(0)
        trained = step(model, v)
        model.eval()
        found.append(trained | model.features(v, model.tokenize(v)))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("normalize", ["instance", "dataset"])
@pytest.mark.parametrize("everything", [False, True])
def test_with_one_channel_every_level_is_the_same_model_bit_for_bit(everything: bool, normalize: str) -> None:
    runs: list[dict[str, torch.Tensor]] = []
    for channels in LEVELS:
        make = full if everything else build
        model = make(sizes=ONE, channels=channels, normalize=normalize)
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        kept: dict[str, torch.Tensor] = {}
        for i in range(3):
            found = losses(model)
            optimizer.zero_grad()
            found["total"].backward()
            optimizer.step()
            kept |= {f"{i} {name}": value.detach() for name, value in found.items()}
        x = windows(channels=1)
        model.eval()
        with torch.no_grad():
            runs.append(kept | model.state_dict() | model.features(x, model.tokenize(x)))
    for other in runs[1:]:
        assert other.keys() == runs[0].keys()
        assert all(torch.equal(value, other[name]) for name, value in runs[0].items())


def test_a_joint_token_has_one_code_that_hangs_on_every_axis() -> None:
    model = build(channels="joint").eval()
    x = windows()
    for axis in range(2):
        moved = x.clone()
        moved[:, axis] += 5
        one, other = (model.tokenize(v).attributes.z for v in (x, moved))
        assert (one != other).any(-1).all(), axis


@pytest.mark.parametrize("smoothing", [1, 3])
def test_cut_of_several_axes_is_the_cut_of_each_alone(smoothing: int) -> None:
    g = torch.Generator().manual_seed(1)
    x, t, length = windows(5, 3, 31), torch.rand(5, 4, 1, generator=g), torch.rand(5, 4, 1, generator=g)
    together = cut(x, t, length, 16, smoothing)
    assert together.shape == (5, 4, 3, 16)
    for axis in range(3):
        assert torch.equal(together[:, :, axis], cut(x[:, [axis]], t, length, 16, smoothing)[:, :, 0])


def test_every_joint_shape_has_mean_0_and_deviation_1_before_mu_and_sigma() -> None:
    decoder = ShapeDecoder(8, 32, 3, axes=3)
    codes = torch.randn(5, 8)
    s_IAS = decoder(codes)
    torch.testing.assert_close(s_IAS.mean(-1), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(s_IAS.std(-1), torch.ones(5, 3), atol=1e-4, rtol=0)
    model = build(channels="joint").eval()
    out = model.reconstruct(windows(), model.tokenize(windows()))
    torch.testing.assert_close(out.s_hat.mean(-1), out.attributes.mu, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.s_hat.std(-1), out.attributes.sigma, atol=1e-5, rtol=1e-4)


def test_decoding_code_by_code_equals_token_by_token_on_every_axis() -> None:
    model = build(channels="joint").eval()
    decoder, codes = model.core.shape_decoder, model.core.codebook.codes()
    grads, shapes = [], []
    for by_code in (True, False):
        z, code, _ = model.core.tokenize(model.to_series(windows()))[1]
        s = decoder.by_code(z, code, codes) if by_code else decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        shapes.append(s.detach())
        model.zero_grad()
        (s * torch.randn(s.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        grads.append({n: p.grad for n, p in model.core.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*shapes, rtol=1e-4, atol=1e-5)
    assert grads[0].keys() == grads[1].keys() and any("encoder" in name for name in grads[0])
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], rtol=1e-3, atol=1e-3)


def by_hand() -> Tokens:
    """Two series of one window (or one of each of two), two tokens, code width 2, one axis."""
    z = torch.arange(8.0).reshape(2, 2, 2)
    mu, sigma, t, length = (k + torch.arange(4.0).reshape(2, 2, 1) / 10 for k in (10, 20, 30, 40))
    return Tokens(
        Attributes(z=-z, mu=mu, sigma=sigma, t=t, l=length),
        Quantized(z, torch.tensor([[0, 2], [2, 2]]), torch.tensor(0.0)),
    )


def test_tokens_are_z_t_l_mu_sigma_of_each_token_in_turn() -> None:
    first = [0, 1, 30.0, 40.0, 10.0, 20.0, 2, 3, 30.1, 40.1, 10.1, 20.1]
    second = [4, 5, 30.2, 40.2, 10.2, 20.2, 6, 7, 30.3, 40.3, 10.3, 20.3]
    torch.testing.assert_close(by_hand().tokens(1), torch.tensor([first + second]))
    torch.testing.assert_close(by_hand().tokens(2), torch.tensor([first, second]))
    plain = features(by_hand().attributes, 2)  # z before quantisation
    assert plain[0, [0, 1, 6, 7]].tolist() == [0, -1, -2, -3] and plain[0, 2].item() == pytest.approx(30)
    read = by_hand().features(windows(2), ModelConfig(codes=3))
    assert torch.equal(read["tokens"], by_hand().tokens(2)) and torch.equal(read["tokens_ze"], plain)


def test_pooled_is_mean_and_mean_square_over_the_tokens_of_each_series_in_any_order() -> None:
    mean = [1, 2, 30.05, 40.05, 10.05, 20.05]
    square = [
        2,
        5,
        (30**2 + 30.1**2) / 2,
        (40**2 + 40.1**2) / 2,
        (10**2 + 10.1**2) / 2,
        (20**2 + 20.1**2) / 2,
    ]
    read = by_hand().pooled(2)
    torch.testing.assert_close(read[0], torch.tensor(mean + square))
    torch.testing.assert_close(by_hand().pooled(1)[0], torch.cat([read[0], read[1]]))
    turned = Tokens(
        Attributes(*(value.flip(1) for value in by_hand().attributes)),
        by_hand().quantized._replace(z=by_hand().quantized.z.flip(1)),
    )
    torch.testing.assert_close(turned.pooled(2), read)


def test_a_joint_token_lists_mu_and_sigma_of_every_axis() -> None:
    z, mu, sigma, t, length = (torch.tensor([[v]]) for v in ([5.0], [1.0, 2.0], [3.0, 4.0], [6.0], [7.0]))
    a = Attributes(z, mu, sigma, t, length)
    assert features(a, 1).tolist() == [[5, 6, 7, 1, 2, 3, 4]]


def test_a_histogram_counts_codes_series_by_series() -> None:
    assert by_hand().histogram(1, 3).tolist() == [[1, 0, 1, 0, 0, 2]]
    assert by_hand().histogram(2, 3).tolist() == [[1, 0, 1], [0, 0, 2]]
    without = by_hand()._replace(quantized=Quantized(torch.zeros(2, 2, 2), None, torch.tensor(0.0)))
    with pytest.raises(ValueError, match="quantizer none has no codes to count"):
        without.histogram(1, 3)
    read = without.features(windows(1), ModelConfig(quantizer="none"))
    assert read.keys() == {"tokens", "tokens_ze", "pooled"}


def test_scale_is_the_mean_and_log_deviation_of_the_raw_window_as_the_baseline_has_them() -> None:
    x = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    found = scale(x)[0].tolist()
    assert found == pytest.approx([2, 5, math.log(1 + 1e-6), math.log(1e-6)], rel=1e-5, abs=1e-6)
    long = 100 * windows(4, 3, 50).double() + 7
    np.testing.assert_allclose(scale(long).numpy(), statistics(side(long, np.zeros(4, int))), rtol=1e-12)


@pytest.mark.parametrize("channels", LEVELS)
def test_keep_scale_adds_its_block_and_changes_nothing_else(channels: str) -> None:
    x, read, trained = 3 * windows() + 5, [], []
    for keep_scale in (False, True):
        model = build({"ce_series": 1.0}, channels=channels, keep_scale=keep_scale, normalize="instance")
        model.standardize(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))  # the block is raw
        torch.manual_seed(0)
        trained.append(step(model, x) | model.state_dict())
        read.append(model.eval().features(x, model.tokenize(x)))
    assert torch.equal(read[1].pop("scale"), scale(x))
    for one, other in (read, trained):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
