"""What a network trained on raw windows makes of rebuilt ones."""

import numpy as np
import pytest
import torch
from guided_fixture import build, side

from experiments import metrics
from experiments.fcn import FCN
from experiments.survival import rebuilt, survival
from model.guided import GuidedVQShape

X = torch.randn(9, 2, 24, generator=torch.Generator().manual_seed(0)) * torch.tensor([[3.0], [0.2]]) + 5
LABEL = np.arange(9) % 3


@pytest.fixture(params=["independent", "joint", "flatten"])
def model(request: pytest.FixtureRequest) -> GuidedVQShape:
    built = build(channels=request.param)
    built.standardize(torch.tensor([[5.0], [4.0]]), torch.tensor([[3.0], [0.5]]))
    return built


def test_rebuilt_windows_are_raw_ones_and_off_by_the_errors_that_the_trial_reports(
    model: GuidedVQShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "BATCH", 9)
    test = side(X, LABEL)
    errors = metrics.errors(model, test, metrics.encode(model, test).tokens)
    ((x_hat, x_shuffled),) = rebuilt(model, test)
    assert x_hat.shape == X.shape
    for found, error in ((x_hat, errors.series_mse), (x_shuffled, errors.series_mse_shuffled_codes)):
        assert float((((found - X) / model.scale) ** 2).mean()) == pytest.approx(error, rel=1e-4)


def test_the_judge_reads_rebuilt_windows_as_they_are_and_learns_nothing(model: GuidedVQShape) -> None:
    judge = FCN(2, 3, seed=0).train()
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    test = side(X, LABEL)
    found = survival(model, judge, test)
    assert all(torch.equal(value, before[name]) for name, value in judge.state_dict().items())
    ((x_hat, x_shuffled),) = rebuilt(model, test)
    with torch.no_grad():
        raw, own, lost = (metrics.scores(LABEL, judge(x).argmax(1).numpy()) for x in (X, x_hat, x_shuffled))
    assert found == {
        "recon/fcn_macro_f1": own["macro_f1"],
        "recon/fcn_accuracy": own["accuracy"],
        "recon/fcn_raw_macro_f1": raw["macro_f1"],
        "recon/fcn_shuffled_codes_macro_f1": lost["macro_f1"],
        "recon/fcn_kept_frac": own["macro_f1"] / raw["macro_f1"],
    }
    assert found == survival(model, judge, test)
