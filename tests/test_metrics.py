"""What windows are encoded to, and the errors that the decoders make of it."""

from typing import Any

import pytest
import torch

from experiments import metrics
from model.batch import Sizes
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape
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
