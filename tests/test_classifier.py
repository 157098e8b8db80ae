"""A finished trial classifies raw windows as it classified its test windows."""

import numpy as np
import pytest
from conftest import Finished
from sklearn.linear_model import RidgeClassifier

from experiments import classifier, data, probe
from experiments.config import RunConfig


def test_a_trial_classifies_its_test_windows_again_as_it_did(finished: Finished) -> None:
    seen = set()
    for signature, result in finished.store.results(p.name for p in finished.store.root.glob("trials/*")):
        assert result is not None
        config, folder = RunConfig.model_validate(result["config"]), finished.store.trial(signature)
        loaded = data.load_split(config.data, str(result["digests"]["data"]), finished.store.cache)
        found = classifier.load(folder)
        with np.load(folder / "predictions.npz") as kept:
            windows = np.asarray(loaded.windows.series[kept["window"]])
            assert np.array_equal(found.predict(windows), kept["predicted"])
        assert found.classes == loaded.classes
        seen.add(config.baseline)
    assert seen == {"none", "statistics"}


@pytest.mark.parametrize("classes", [2, 3])
def test_a_kept_probe_predicts_as_scikit_learns_and_ranks_alike(classes: int) -> None:
    rng = np.random.default_rng(classes)
    y = rng.permutation(np.arange(90) % classes) + 1  # class 0 is never seen
    x = rng.standard_normal((90, 6)) + y[:, None]
    parts = [[x[i::3]] for i in range(3)], [y[i::3] for i in range(3)]
    kept = probe.test(tuple(parts[0]), tuple(parts[1]), (1.0,)).probe
    fitted = np.concatenate([x[0::3], x[1::3]]), np.concatenate([y[0::3], y[1::3]])
    z = (x[2::3] - fitted[0].mean(0)) / fitted[0].std(0)
    theirs = RidgeClassifier(1.0).fit((fitted[0] - fitted[0].mean(0)) / fitted[0].std(0), fitted[1])
    assert np.array_equal(kept.predict([x[2::3]]), theirs.predict(z))
    own = kept.scores([x[2::3]])
    decided = theirs.decision_function(z)
    assert own == pytest.approx(np.stack([-decided, decided], 1) if classes == 2 else decided)
    assert kept.classes.tolist() == list(range(1, classes + 1))


def test_windows_of_another_kind_and_trials_without_a_model_are_told(finished: Finished) -> None:
    signature = next(
        s
        for s, r in finished.store.results(p.name for p in finished.store.root.glob("trials/*"))
        if r and r["config"]["baseline"] == "none"
    )
    found = classifier.load(finished.store.trial(signature))
    for bad in (np.zeros((6, 100)), np.zeros((0, 6, 100)), np.full((1, 6, 100), np.nan)):
        with pytest.raises(ValueError, match="expected"):
            found.predict(bad)
    with pytest.raises(ValueError, match="expected windows"):
        found.predict(np.zeros((1, 5, 100)))
