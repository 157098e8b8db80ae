"""Which class's text lies nearest to a window."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_trial
from guided_fixture import batch, build, per_class, side
from test_trial import numbers
from torch.nn.functional import cosine_similarity

from experiments import retrieval
from experiments.config import RunConfig
from experiments.encoder import Embeddings
from experiments.execute import Job
from experiments.ledger import Store
from experiments.texts import TextRows

LOSSES = {"info_nce": 0.1}


def test_ranks_by_hand() -> None:
    # Own class first; second; last, as another is equal; alone at the top.
    similarity = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.3], [-0.1, -0.2, -0.05]])
    found = retrieval.scores(similarity, np.array([0, 1, 1, 2]))
    assert found == pytest.approx(
        {"diag/retrieval_accuracy": 2 / 4, "diag/retrieval_mrr": (1 + 1 / 2 + 1 / 3 + 1) / 4}
    )


@pytest.mark.parametrize("queries", [None, 2])
def test_a_class_is_as_near_as_the_nearest_of_its_wordings(queries: int | None) -> None:
    model = build(LOSSES, queries=queries)
    b = batch(model)
    lengths, rng = [3, 1, 2, 4, 2], np.random.default_rng(0)
    tokens = rng.normal(size=(sum(lengths), 12)).astype(np.float32)
    rows = TextRows(Embeddings(tokens, np.cumsum([0, *lengths])), "cpu")
    # Classes 0 and 2 share a wording.
    of_class = per_class([["a", "b"], ["c"], ["d", "a", "e"]], np.arange(3))
    found = retrieval.similarity(model, side(b.x, b.label.numpy()), rows, of_class)
    with torch.no_grad():
        h_WD = model.core.embed(model.to_series(b.x)).mean(1).view(len(b.x), 2, -1).mean(1)
        first = np.cumsum([0, *lengths])
        cosine = {}
        for name, i, j in zip("abcde", first[:-1], first[1:], strict=True):
            table = TextRows(Embeddings(tokens[i:j], np.array([0, j - i])), "cpu").whole
            assert table is not None and model.text is not None
            cosine[name] = cosine_similarity(h_WD, model.text(table)[0].mean(1)).numpy()
    expected = [np.maximum(cosine["a"], cosine["b"]), cosine["c"], np.max([cosine[k] for k in "dae"], axis=0)]
    assert found == pytest.approx(np.stack(expected, axis=1), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ({}, True),
        ({"source": "both"}, True),
        ({"source": "series"}, False),
        ({"control": "constant"}, False),
        ({"control": "random"}, True),
        ({"control": "random", "source": "both"}, False),
        ({"control": "one_hot"}, True),
    ],
)
def test_only_classes_that_have_texts_of_their_own_are_looked_for(text: dict[str, Any], there: bool) -> None:
    asked = {"model": {"guidance": {"attention": "one_way"}}, "text": text}
    assert retrieval.classes_have_texts(RunConfig.model_validate(asked)) == there
    assert not retrieval.classes_have_texts(RunConfig())


def test_the_diagnosis_moves_no_other_number(
    store: Store, jobs: Callable[[str], list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("text: {model.guidance.attention: two_way, losses.info_nce: 0.1, train.epochs: 1}")
    run_trial(job)
    whole = numbers(store, job)
    diagnosed = {name for name in whole["metrics"] if name.startswith("diag/")}
    assert diagnosed == {"diag/retrieval_accuracy", "diag/retrieval_mrr"}
    monkeypatch.setattr(retrieval, "diagnose", lambda *_: {})
    (store.root / "stages").rename(store.root / "others")  # or the trained model would be taken
    run_trial(job)
    whole["metrics"] = {k: v for k, v in whole["metrics"].items() if k not in diagnosed}
    assert numbers(store, job) == whole
