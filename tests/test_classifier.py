"""A finished trial classifies raw windows as it classified its test windows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Finished, run_trial
from safetensors.torch import save_file
from sklearn.linear_model import RidgeClassifier

from experiments import classifier, data, probe
from experiments.config import RunConfig
from experiments.execute import Job
from experiments.ledger import Store


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


def test_a_trained_network_classifies_its_test_windows_again_as_it_did(
    store: Store, jobs: Callable[[str], list[Job]]
) -> None:
    job, rocket = jobs("fcn: {baseline: fcn}, rocket: {baseline: minirocket}")
    run_trial(job)
    config, folder = RunConfig.model_validate(job.config), store.trial(job.signature)
    loaded = data.load_split(config.data, str(job.digests["data"]), store.cache)
    found = classifier.load(folder)
    with np.load(folder / "predictions.npz") as kept:
        windows = np.asarray(loaded.windows.series[kept["window"]])
        assert np.array_equal(found.predict(windows), kept["predicted"])
    assert found.scores(windows).shape == (40, 4) and found.classes == loaded.classes
    assert {path.name for path in (folder / "model").iterdir()} == {"fcn.safetensors", "example.npy"}
    with pytest.raises(ValueError, match=r"fcn.safetensors is no network .* missing there: scale, blocks"):
        save_file({"offset": torch.zeros(6, 1)}, folder / "model/fcn.safetensors")
        classifier.load(folder)
    with pytest.raises(ValueError, match=r"fcn.safetensors is broken"):
        (folder / "model/fcn.safetensors").write_bytes(b"torn")
        classifier.load(folder)
    with pytest.raises(FileNotFoundError, match="older ShapeLex"):
        (folder / "model/fcn.safetensors").unlink()
        classifier.load(folder)
    other = store.trial(rocket.signature)
    other.mkdir()
    (other / "result.json").write_text(json.dumps({"config": rocket.config}))
    with pytest.raises(FileNotFoundError, match="minirocket keep no model"):
        classifier.load(other)


def test_a_probe_that_is_broken_is_told(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for content in (b"", b"torn", b"PK\x03\x04"):
        (tmp_path / classifier.PROBE).write_bytes(content)
        with pytest.raises(ValueError, match=r"probe.npz is broken"):
            classifier.read(tmp_path)
    np.savez(tmp_path / classifier.PROBE, weight=np.zeros(2))
    with pytest.raises(ValueError, match=r"probe.npz is broken"):
        classifier.read(tmp_path)


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
