"""Each variant's best trial as a model in MLflow: kept to the ledger, and a classifier of raw windows."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mirror_fixture import BAD, ONE, PLAN, TWO, client, empty, result_of, runs, store, write_trial

from experiments import models, track

__all__ = ["empty", "store"]  # fixtures


@pytest.fixture
def models_of(store: Path) -> Any:
    """All that is whole in MLflow: row, trial, run, by the model's id."""
    for signature in (ONE, TWO, BAD):
        (store / "trials" / signature / "model").mkdir()
        np.save(store / "trials" / signature / models.EXAMPLE, np.zeros((1, 2, 3), np.float32))

    def find() -> dict[str, tuple[str, str, str]]:
        experiment = client(store).get_experiment_by_name("quick").experiment_id
        found = client(store).search_logged_models([experiment])
        assert {model.status for model in found} <= {"READY"}
        return {m.model_id: (m.name, m.tags["shapelex.signature"], m.source_run_id) for m in found}

    return find


def test_a_complete_row_has_its_best_trial_as_its_model_and_syncing_again_adds_none(
    store: Path, models_of: Any
) -> None:
    mirror = track.Mirror(store, PLAN)
    mirror.sync()
    ((model_id, found),) = models_of().items()
    run = runs(store)["z_one_way"]
    assert found == ("z_one_way", ONE, run.info.run_id)  # equal on validation: the first seed
    assert run.data.tags[models.TAG] == ONE and models.TAG not in runs(store)["shuffled"].data.tags
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    for again in (mirror, track.Mirror(store, PLAN)):
        assert again.sync() == 0 and list(models_of()) == [model_id]


def test_a_better_trial_takes_the_models_place_and_an_incomplete_row_has_none(
    store: Path, models_of: Any
) -> None:
    mirror = track.Mirror(store, PLAN)
    mirror.sync()
    (before,) = models_of()
    better = {"val/macro_f1": 0.4, "test/macro_f1": 0.1}
    (store / "trials" / TWO / "result.json").write_text(json.dumps(result_of(TWO, attempt=2, metrics=better)))
    mirror.sync()
    ((after, found),) = models_of().items()
    assert after != before and found[1] == TWO
    assert runs(store)["z_one_way"].data.tags[models.TAG] == TWO
    (store / "trials" / ONE / "result.json").unlink()
    track.Mirror(store, PLAN).sync()
    assert models_of() == {} and models.TAG not in runs(store)["z_one_way"].data.tags
    write_trial(store, ONE)
    track.Mirror(store, PLAN).sync()
    assert [trial for _, trial, _ in models_of().values()] == [TWO]


@pytest.mark.parametrize(
    "method",
    ["create_logged_model", "log_model_artifacts", "log_outputs", "set_tag", "finalize_logged_model"],
)
def test_killed_while_a_model_is_logged_it_is_logged_once(store: Path, models_of: Any, method: str) -> None:
    with patch(f"mlflow.MlflowClient.{method}", side_effect=SystemExit), pytest.raises(SystemExit):
        track.Mirror(store, PLAN).sync()
    assert track.pending(store, PLAN)
    track.Mirror(store, PLAN).sync()
    assert len(models_of()) == 1 and track.pending(store, PLAN) == []


def test_a_model_that_cannot_be_logged_is_told_keeps_no_result_waiting_and_is_tried_again(
    store: Path, models_of: Any
) -> None:
    (store / "trials" / ONE / models.EXAMPLE).write_bytes(b"torn")
    mirror = track.Mirror(store, PLAN)
    for _ in range(2):
        with pytest.raises(track.MirrorError):
            mirror.sync()
    assert {run.info.status for run in runs(store).values()} == {"FINISHED", "FAILED"}
    assert [cell.signature for cell in track.pending(store, PLAN)] == [ONE]
    np.save(store / "trials" / ONE / models.EXAMPLE, np.zeros((1, 2, 3), np.float32))
    mirror.sync()
    assert len(models_of()) == 1 and track.pending(store, PLAN) == []
