"""Rows that are not the core, and a core whose training windows are changed, are trials like any other."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import run_trial
from sklearn.metrics import f1_score

from experiments import data
from experiments.augment import Augment
from experiments.config import RunConfig
from experiments.execute import Job
from experiments.ledger import Store

Jobs = Callable[[str], list[Job]]


def ran(store: Store, job: Job) -> dict[str, Any]:
    run_trial(job)
    result = store.result(job.signature)
    assert result is not None and result["status"] == "done", result
    return result


@pytest.mark.parametrize("name", ["fcn", "minirocket", "statistics"])
def test_a_baseline_is_scored_on_the_cores_windows_and_gives_the_same_twice(
    store: Store, jobs: Jobs, name: str
) -> None:
    core, job = jobs(f"core: {{train.epochs: 2}}, row: {{baseline: {name}}}")
    first, again = ran(store, job), ran(store, job)
    assert first["metrics"] == again["metrics"] and first["per_class_f1"] == again["per_class_f1"]
    assert first["data"] == ran(store, core)["data"]
    loaded = data.load_split(RunConfig.model_validate(job.config).data, str(job.digests["data"]), store.cache)
    with np.load(store.trial(job.signature) / "predictions.npz") as found:
        assert np.array_equal(found["window"], loaded.split.test)
        assert np.array_equal(found["label"], loaded.windows.label[loaded.split.test])
        score = f1_score(found["label"], found["predicted"], average="macro")
    assert first["metrics"]["test/macro_f1"] == pytest.approx(score)
    assert {"val/macro_f1", "test/accuracy", "test/balanced_accuracy"} <= first["metrics"].keys()
    assert job.digests["text"] is None and job.digests["encoder"] is None


def test_the_network_has_the_cores_epochs_and_choice_and_its_own_count_of_weights(
    store: Store, jobs: Jobs
) -> None:
    (job,) = jobs("row: {baseline: fcn, train: {epochs: 4, select: validation, validate_every: 2}}")
    result = ran(store, job)
    lines = [
        json.loads(line) for line in (store.trial(job.signature) / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    scores = {line["epoch"]: line["val/macro_f1"] for line in lines if "val/macro_f1" in line}
    assert scores.keys() == {1, 3} and scores[result["best_epoch"]] == max(scores.values())
    assert result["metrics"]["val/macro_f1"] == pytest.approx(max(scores.values()))
    assert result["cost"]["parameters"] == 6 * 8 * 128 + 128 * 5 * 256 + 256 * 3 * 128 + 2 * 512 + 128 * 4 + 4


@pytest.mark.parametrize("row", ["train.epochs: 2", "baseline: fcn"])
def test_augmentation_meets_training_windows_alone(
    store: Store, jobs: Jobs, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, changed = jobs(f"a: {{{row}}}, b: {{{row}, data.augment: {{jitter: 0.5, rotation_deg: 30}}}}")
    real, seen = Augment.__call__, list[int]()

    def counted(augment: Augment, x_BMT: Any, generator: Any) -> Any:
        seen.append(len(x_BMT))
        return real(augment, x_BMT, generator)

    monkeypatch.setattr(Augment, "__call__", counted)
    curves = []
    for job in (plain, changed):
        result = ran(store, job)
        lines = (store.trial(job.signature) / "metrics.jsonl").read_text().splitlines()
        curves.append([json.loads(line)["train/loss"] for line in lines])
    assert curves[0] != curves[1]
    assert sum(seen) == 2 * result["data"]["n_train"]  # in each epoch each training window, and no other
