"""Raw arrays become tokens, whatever their dtype, the number of windows and the model's mode."""

import numpy as np
import pytest
import torch

from model import arrays
from model.arrays import tokenize
from model.batch import Sizes
from model.config import LossConfig, ModelConfig
from model.guided import GuidedVQShape

SMALL = dict(
    patches=6, tokens=4, width=16, heads=2, encoder_layers=1, tokenizer_layers=1, codes=8, shape_length=16
)


def build(**config: object) -> GuidedVQShape:
    settings = ModelConfig.model_validate(SMALL | config)
    model = GuidedVQShape(settings, LossConfig(), Sizes(24, 3, 2, 0), None, seed=0)
    model.standardize(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[2.0], [1.0], [4.0]]))
    return model.eval()


def windows(number: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(2, 3, (number, 3, 24))


@pytest.mark.parametrize(
    ("channels", "series", "axes"), [("independent", 3, 1), ("joint", 1, 3), ("flatten", 1, 1)]
)
def test_arrays_give_what_the_model_gives_tensors(channels: str, series: int, axes: int) -> None:
    model = build(channels=channels, keep_scale=True)
    x = windows()
    found = tokenize(model, x)
    x_in = torch.tensor(x, dtype=torch.float32)
    with torch.no_grad():
        tokens = model.tokenize(x_in)
        features = model.features(x_in, tokens)
    shape = (5, series, 4)
    assert found.code is not None and found.code.dtype == np.int64
    assert np.array_equal(found.code, tokens.quantized.code.reshape(shape))
    assert np.array_equal(found.z, tokens.quantized.z.reshape(*shape, 8))
    for name in ("t", "l"):
        assert np.array_equal(getattr(found, name), getattr(tokens.attributes, name).reshape(shape))
    for name in ("mu", "sigma"):
        assert np.array_equal(getattr(found, name), getattr(tokens.attributes, name).reshape(*shape, axes))
    assert found.features.keys() == {"tokens", "tokens_ze", "pooled", "histogram", "scale"} == features.keys()
    assert all(np.array_equal(found.features[name], features[name]) for name in features)
    np.testing.assert_allclose(found.z, model.core.codebook.codes().detach().numpy()[found.code], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, np.int8, np.uint8])
def test_any_real_dtype_counts_as_its_values_and_is_left_alone(dtype: type) -> None:
    x = np.round(np.clip(windows(), 0, 100)).astype(dtype)
    before = x.copy()
    one, other = tokenize(build(), x), tokenize(build(), x.astype(np.float32))
    assert all(np.array_equal(one.features[name], other.features[name]) for name in one.features)
    assert np.array_equal(x, before)


def test_one_window_counts_as_one_and_any_memory_order_and_a_list_will_do() -> None:
    x = windows()
    alone = tokenize(build(), x[1])
    assert alone.code is not None and alone.code.shape == (1, 3, 4)
    for same in (x[1:2], np.asfortranarray(x[1]), x[1].tolist(), x[1, :, ::-1][:, ::-1]):
        found = tokenize(build(), same)
        assert np.array_equal(found.features["tokens"], alone.features["tokens"])


def test_no_pass_sees_more_windows_than_a_batch_and_their_order_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x, seen = build(), windows(7), []
    whole = tokenize(model, x)
    real = model.tokenize

    def counted(x_WMT: torch.Tensor) -> object:
        seen.append(len(x_WMT))
        return real(x_WMT)

    monkeypatch.setattr(arrays, "BATCH", 3)
    monkeypatch.setattr(model, "tokenize", counted)
    parts = tokenize(model, x)
    assert seen == [3, 3, 1]
    for name in ("t", "l", "mu", "sigma", "z"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_the_mode_of_every_module_and_the_random_state_stay_and_dropout_is_off() -> None:
    model = build(dropout=0.5).train()
    model.core.tokenizer.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    one, other = tokenize(model, windows()), tokenize(model, windows())
    assert np.array_equal(one.z, other.z) and np.array_equal(one.t, other.t)
    with pytest.raises(ValueError, match="found nan"):
        tokenize(model, np.full((1, 3, 24), np.nan))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_gives_float32_arrays(dtype: torch.dtype) -> None:
    found = tokenize(build().to(dtype), windows())
    assert found.z.dtype == found.t.dtype == found.features["tokens"].dtype == np.float32
    whole = tokenize(build(), windows())
    np.testing.assert_allclose(found.t, whole.t, atol=1e-4 if dtype == torch.float64 else 0.05)


def test_running_state_of_a_quantizer_does_not_move() -> None:
    model = build(quantizer="ema").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tokenize(model, windows())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_a_codebook_there_are_no_codes_and_no_histogram() -> None:
    found = tokenize(build(quantizer="none"), windows())
    assert found.code is None and found.features.keys() == {"tokens", "tokens_ze", "pooled"}
    assert found.z.shape == (5, 3, 4, 8)


@pytest.mark.parametrize(
    "shape", [(24,), (5, 24, 3), (5, 2, 24), (2, 24), (5, 3, 25), (1, 5, 3, 24), (0, 3, 24)]
)
def test_a_wrong_shape_says_expected_and_found(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as raised:
        tokenize(build(), np.zeros(shape))
    expected = "expected windows (W, 3 channels, 24 steps) or one (3, 24), found shape "
    assert str(raised.value) == expected + str(shape)


@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "inf")]
)
def test_a_value_that_is_not_finite_says_where(
    value: float, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "BATCH", 2)
    x = windows()
    x[3, 1, 7] = value
    with pytest.raises(ValueError) as raised:
        tokenize(build(), x)
    assert str(raised.value) == f"expected finite numbers, found {found} in window 3, channel 1, step 7"


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_, "U1", object])
def test_other_dtypes_are_refused(dtype: object) -> None:
    with pytest.raises(ValueError, match="expected real numbers, found dtype"):
        tokenize(build(), np.zeros((1, 3, 24)).astype(dtype))
