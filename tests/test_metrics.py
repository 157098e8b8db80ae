"""What windows are encoded to, and the errors that the decoders make of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from experiments import metrics
from model.attributes import Attributes
from model.batch import Sizes
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
from model.quantizer import Quantized
from model.representations import Tokens
from model.vqshape import VQShape

WINDOWS = 11


@pytest.fixture
def model() -> GuidedVQShape:
    config = ModelConfig(patches=5, tokens=5, width=16, heads=2, codes=8, shape_length=16, keep_scale=True)
    return GuidedVQShape(config, LossConfig(), Sizes(40, 3, 4, 0), None, seed=0)


@pytest.fixture
def x_WMT() -> torch.Tensor:
    return torch.randn(WINDOWS, 3, 40, generator=torch.Generator().manual_seed(0))


def refuse(*_: Any) -> None:
    raise AssertionError("a decoder ran")


def test_encoding_runs_no_decoder_and_the_series_error_decodes_no_shape(
    model: GuidedVQShape, x_WMT: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.core.shape_decoder, "decode", refuse)
    with monkeypatch.context() as inner:
        inner.setattr(VQShape, "decode_series", refuse)
        encoded = metrics.encode(model, x_WMT)
        with pytest.raises(AssertionError, match="a decoder ran"):
            metrics.series_mse(model, x_WMT, encoded.tokens)
    assert metrics.series_mse(model, x_WMT, encoded.tokens) > 0
    with pytest.raises(AssertionError, match="a decoder ran"):
        metrics.errors(model, x_WMT, encoded.tokens)
    widths = {name: values.shape for name, values in encoded.features.items()}
    assert widths == {
        "tokens": (WINDOWS, 3 * 5 * 12),
        "tokens_ze": (WINDOWS, 3 * 5 * 12),
        "pooled": (WINDOWS, 3 * 2 * 12),
        "histogram": (WINDOWS, 3 * 8),
        "scale": (WINDOWS, 2 * 3),
    }
    assert encoded.code is not None and encoded.code.shape == (WINDOWS, 3 * 5)


@pytest.mark.parametrize("windows_a_pass", [4, 100], ids=["three_passes", "one_pass"])
def test_errors_are_means_over_windows_whatever_a_pass_holds(
    model: GuidedVQShape, x_WMT: torch.Tensor, monkeypatch: pytest.MonkeyPatch, windows_a_pass: int
) -> None:
    monkeypatch.setattr(metrics, "BATCH", windows_a_pass)
    tokens = metrics.encode(model, x_WMT).tokens
    found = metrics.errors(model, x_WMT, tokens)
    assert metrics.series_mse(model, x_WMT, tokens) == found.series_mse
    with torch.no_grad():
        x_BAT = model.to_series(x_WMT)
        out = model.eval().core(x_BAT)
        losses = model.core.losses(x_BAT, out)
    assert found.series_mse == pytest.approx(float(losses["series"]), rel=1e-5)
    assert found.shape_mse == pytest.approx(float(losses["shape"]), rel=1e-5)


@pytest.mark.parametrize("windows_a_pass", [4, 100], ids=["three_passes", "one_pass"])
def test_r2_is_none_for_a_windows_own_mean_and_one_for_a_copy(
    model: GuidedVQShape, x_WMT: torch.Tensor, monkeypatch: pytest.MonkeyPatch, windows_a_pass: int
) -> None:
    monkeypatch.setattr(metrics, "BATCH", windows_a_pass)
    tokens = metrics.encode(model, x_WMT).tokens

    def r2(rebuilt: Callable[[torch.Tensor], torch.Tensor]) -> float:
        monkeypatch.setattr(VQShape, "decode_series", lambda _, x_BAT, a: rebuilt(x_BAT))
        return metrics.series_r2(model, x_WMT, metrics.series_mse(model, x_WMT, tokens))

    assert r2(lambda x: x) == 1
    assert r2(lambda x: x.mean(-1, keepdim=True).expand_as(x)) == pytest.approx(0, abs=1e-6)
    assert r2(lambda x: (x + x.mean(-1, keepdim=True)) / 2) == pytest.approx(0.75)
    assert r2(lambda x: x + 9) < -1


def test_shuffling_codes_changes_the_series_only_where_codes_differ(
    model: GuidedVQShape, x_WMT: torch.Tensor
) -> None:
    found = metrics.errors(model, x_WMT, metrics.encode(model, x_WMT).tokens)
    assert found.series_mse_shuffled_codes != found.series_mse
    codes = model.core.codebook.codes()
    assert codes is not None
    codes.data[:] = codes.data[0].clone()
    encoded = metrics.encode(model, x_WMT)
    found = metrics.errors(model, x_WMT, encoded.tokens)
    assert found.series_mse_shuffled_codes == pytest.approx(found.series_mse, rel=1e-5)
    assert metrics.code_health(model, encoded.code)["codes/duplicate_frac"] == 1


def test_shuffled_codes_cross_series_and_come_out_alike_each_time(
    model: GuidedVQShape, x_WMT: torch.Tensor
) -> None:
    encoded = metrics.encode(model, x_WMT)
    (tokens,) = encoded.tokens
    q = tokens.quantized
    # one code for each series: shuffled inside a series nothing would change
    z = q.z[:, :1].expand_as(q.z) * torch.linspace(-9, 9, len(q.z)).view(-1, 1, 1)
    same = [tokens._replace(quantized=q._replace(z=z, code=None))]
    model.core.codebook.codes = lambda: None  # type: ignore[method-assign]
    torch.manual_seed(1)
    one, two = (metrics.errors(model, x_WMT, same) for _ in range(2))
    assert one == two and one.series_mse_shuffled_codes != pytest.approx(one.series_mse, rel=1e-3)


# Class 2 is not there, though a window is taken for it: no part of the mean. Class 3 is never found: 0.
Y, PREDICTED = np.array([0, 0, 0, 1, 3, 3]), np.array([0, 0, 1, 1, 1, 2])
F1 = [0.8, 0.5, 0.0]  # 2 x 2 / (2 + 3), 2 x 1 / (3 + 1)


def test_macro_f1_and_confusion_by_hand() -> None:
    assert metrics.macro_f1(Y, PREDICTED) == pytest.approx(np.mean(F1))
    assert metrics.per_class(Y, PREDICTED, tuple("abcd")) == pytest.approx(dict(zip("abd", F1, strict=True)))
    assert metrics.confusion(Y, PREDICTED, 4) == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]


def test_each_known_subject_has_the_macro_f1_of_its_own_windows() -> None:
    found = metrics.per_subject(Y, PREDICTED, np.array([0, 0, 4, 4, -1, -1]))
    assert found == pytest.approx(
        {"0": 1.0, "4": 1 / 3}
    )  # 0: has one class; 4: class 0 missed, class 1 F1 of 2/3
    assert metrics.per_subject(Y, PREDICTED, np.full(6, -1)) == {}


def test_where_tokens_lie_by_hand() -> None:
    def tokens(t: list[float], l: list[float]) -> Tokens:  # noqa: E741 - the paper's name
        t_1K1, l_1K1 = (torch.tensor(v).view(1, -1, 1) for v in (t, l))
        z = torch.zeros(1, len(t), 2)
        return Tokens(Attributes(z, z, z, t_1K1, l_1K1), Quantized(z, torch.tensor(0.0), None))

    # .1 to .3 and .2 to .4, the former around .15 to .2, and what ends after the window: .9 to 1.
    one = tokens([0.9, 0.2, 0.1, 0.15], [0.2, 0.2, 0.2, 0.05])
    two = tokens([0.0, 0.0, 0.5, 0.5], [0.25, 0.5, 0.5, 0.1])
    found = metrics.spans([one, two])
    t, l = [0.9, 0.2, 0.1, 0.15, 0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.05, 0.25, 0.5, 0.5, 0.1]  # noqa: E741
    assert found == pytest.approx(
        {
            "tokens/t_mean": np.mean(t),
            "tokens/t_sd": np.std(t),
            "tokens/l_mean": np.mean(l),
            "tokens/l_sd": np.std(l),
            "tokens/covered_frac": (0.4 + 1) / 2,
        }
    )


def test_code_health_by_hand(model: GuidedVQShape) -> None:
    codes = model.core.codebook.codes()
    assert codes is not None
    codes.data[:] = 0
    # Their mean distance is 3.0: only the last two are near.
    codes.data[:, 0] = torch.tensor([0, 1, 2, 3, 4, 5, 6, 6.2])
    found = metrics.code_health(model, np.array([[0, 0, 1], [1, 2, 2]]))
    p = np.array([2, 2, 2]) / 6
    assert found == pytest.approx(
        {
            "codes/perplexity": np.exp(-(p * np.log(p)).sum()),
            "codes/used": 3,
            "codes/dead_frac": 5 / 8,
            "codes/duplicate_frac": 2 / 8,
        }
    )
    assert metrics.code_health(model, None) == {}
