"""A finished trial's codes, read off its stored model."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import Finished
from sklearn.metrics import mean_squared_error

from experiments import classifier, data, lexicon, meaning, naming
from experiments.config import RunConfig
from experiments.probe import Linear
from model import checkpoint
from model.arrays import tokenize


def trial(finished: Finished, **wanted: Any) -> str:
    """Signature of a trial of the fixture's whose settings are so."""
    for signature, result in finished.store.results(
        sorted(p.name for p in finished.store.root.glob("trials/*"))
    ):
        assert result is not None
        config = RunConfig.model_validate(result["config"])
        if (config.baseline, config.model.guidance.attention) == (
            wanted.get("baseline", "none"),
            wanted.get("attention", "none"),
        ):
            return signature
    raise AssertionError(wanted)


def opened(finished: Finished, signature: str) -> tuple[RunConfig, dict[str, str | None], data.Loaded]:
    """Config, digests and data of a trial."""
    result = finished.store.result(signature)
    assert result is not None
    config, digests = RunConfig.model_validate(result["config"]), result["digests"]
    return config, digests, data.load_split(config.data, str(digests["data"]), finished.store.cache)


@pytest.fixture(scope="module")
def guided(finished: Finished) -> tuple[str, dict[str, Any]]:
    signature = trial(finished, attention="two_way")
    return signature, lexicon.of(finished.store, signature)


def test_held_out_tokens_are_those_that_users_get(
    finished: Finished, guided: tuple[str, dict[str, Any]]
) -> None:
    signature, found = guided
    model = checkpoint.from_pretrained(finished.store.trial(signature) / "model")
    loaded = opened(finished, signature)[-1]
    assert np.array_equal(found["window"], loaded.split.test)
    tokens = tokenize(model, np.asarray(loaded.windows.series[found["window"]]))
    for name in ("code", "t", "l", "mu", "sigma"):
        assert np.allclose(found[name], getattr(tokens, name), atol=1e-5), name
    assert found["label"].tolist() == loaded.windows.label[found["window"]].tolist()
    drawn = found["series"], found["x_hat"]
    every = (loaded.windows.series[found["window"]] - model.offset.numpy()) / model.scale.numpy()
    assert np.allclose(drawn[0], every[found["drawn"]], atol=1e-5)
    assert mean_squared_error(drawn[0].ravel(), drawn[1].ravel()) < 3  # rebuilt, not something else
    assert np.bincount(found["label"][found["drawn"]]).tolist() == [3, 3, 3, 3]


def test_what_tokens_add_sums_to_the_score_of_the_predicted_class(
    finished: Finished, guided: tuple[str, dict[str, Any]]
) -> None:
    signature, found = guided
    loaded = opened(finished, signature)[-1]
    kept = classifier.load(finished.store.trial(signature))
    scores = kept.scores(np.asarray(loaded.windows.series[found["window"]]))
    predicted = found["predicted"]
    assert np.array_equal(scores.argmax(1), predicted)
    own = (
        scores[np.arange(len(predicted)), predicted]
        - classifier.read(finished.store.trial(signature)).intercept[predicted]
    )
    assert found["contribution"].sum((1, 2)) == pytest.approx(own, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("representation", ["tokens", "tokens_ze", "pooled", "histogram"])
def test_what_tokens_add_sums_to_what_a_probe_makes_of_their_representation(
    finished: Finished, representation: str
) -> None:
    signature = trial(finished)
    model = checkpoint.from_pretrained(finished.store.trial(signature) / "model")
    config, digests, loaded = opened(finished, signature)
    nameless = naming.names(config, digests, loaded, None)
    rows = loaded.split.test
    reader = lexicon.Reader(model, loaded, nameless, representation, "cpu")
    found = reader.read(rows, np.asarray(loaded.windows.label[rows]))
    x_WF = tokenize(model, np.asarray(loaded.windows.series[rows])).features[representation]
    rng, wide = np.random.default_rng(0), x_WF.shape[1]
    mean = np.zeros(wide) if representation == "histogram" else rng.normal(size=wide)
    weight, zero = rng.normal(size=(wide, 3)), np.zeros(3)
    linear = Linear(np.arange(3), mean, rng.uniform(1, 2, wide), weight, zero)
    with_scales = Linear(linear.classes, *(np.concatenate([of, of[:5]]) for of in linear[1:4]), zero)
    predicted = rng.integers(3, size=len(rows))
    added = lexicon.explained(found, predicted, with_scales, model.config.codes, representation)
    own = linear.scores([x_WF])[np.arange(len(rows)), predicted]
    assert added.shape == found["code"].shape and np.ptp(added) > 0.01
    assert added.sum((1, 2)) == pytest.approx(own, rel=1e-4, abs=1e-3)


def test_names_come_with_the_evidence_there_is(
    finished: Finished, guided: tuple[str, dict[str, Any]]
) -> None:
    found = guided[1]
    assert found["evidence"].tolist() == ["attention", "cooccurrence"] and str(found["named_by"]) == "text"
    used = found["train_use"].sum(0) > 0
    assert found["p"].shape == (2, 8, len(found["concepts"]))
    assert found["p"][0][used].sum(1) == pytest.approx(1, abs=1e-4)
    own = np.take_along_axis(
        found["of_class"][found["label"]], found["token_concept"].reshape(len(found["label"]), -1), 1
    )
    assert own.all()  # a token attends to phrases of its window's class alone
    plain = lexicon.of(finished.store, trial(finished))
    assert plain["evidence"].tolist() == ["cooccurrence"] and str(plain["named_by"]) == "labels"
    assert (plain["token_concept"] == -1).all()
    assert {"meaning/nmi", "meaning/nmi_null", "meaning/named_drop"} <= meaning.measure(found).keys()
    assert "meaning/nmi" not in meaning.measure(plain)


def test_examples_are_tokens_of_their_code_a_window_once_the_best_first(
    guided: tuple[str, dict[str, Any]],
) -> None:
    found = guided[1]
    for n, places in enumerate(found["example"]):
        there = [(int(w), int(b)) for w, b in places if w >= 0]
        assert len({w for w, _ in there}) == len(there)
        fits = [found["fit"][w, b][found["code"][w, b] == n].min() for w, b in there]
        assert fits == sorted(fits)
        mine = np.unique(np.nonzero(found["code"] == n)[0])
        assert len(there) == min(len(mine), 5)


def test_a_lexicon_is_made_once_and_again_for_another_result(
    finished: Finished, guided: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    signature, found = guided
    path = finished.store.trial(signature) / "lexicon.npz"
    before = path.read_bytes()
    made: list[str] = []
    real = lexicon.build

    def build(*given: Any) -> Any:
        made.append(given[1])
        return real(*given)

    monkeypatch.setattr(lexicon, "build", build)
    assert lexicon.of(finished.store, signature).keys() == found.keys() and not made
    threads = torch.get_num_threads()
    for broken in (before[:100], b"", before.replace(b"result", b"nothin")):
        path.write_bytes(broken)
        torch.set_num_threads(2 * threads + 1)  # a trial has its own number, on which rounding hangs
        try:
            lexicon.of(finished.store, signature)
            assert torch.get_num_threads() == 2 * threads + 1
        finally:
            torch.set_num_threads(threads)
        assert path.read_bytes() == before
    assert len(made) == 3


def test_trials_without_codes_are_told_so(finished: Finished) -> None:
    with pytest.raises(ValueError, match="has no codes: it is the baseline statistics"):
        lexicon.of(finished.store, trial(finished, baseline="statistics"))
    with pytest.raises(FileNotFoundError, match="no finished trial"):
        lexicon.of(finished.store, "0" * 16)
