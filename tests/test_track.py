"""The mirror against a real MLflow on SQLite, and once against a real server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mirror_fixture import (
    BAD,
    CELLS,
    ERROR,
    ONE,
    PLAN,
    PNG,
    TWO,
    client,
    empty,
    plan_of,
    runs,
    store,
    tables,
    write_trial,
)

from experiments import track, ui
from experiments.background import BackgroundMirror
from experiments.ledger import locked

__all__ = ["empty", "store"]  # fixtures


@pytest.fixture
def mirrored(store: Path) -> Path:
    assert track.Mirror(store, PLAN).sync() == 3
    return store


def metrics(store: Path, sweep: str = "quick") -> dict[str, Any]:
    return {name: run.data.metrics for name, run in runs(store, sweep).items()}


def everything(store: Path) -> dict[str, Any]:
    out = {}
    for name, run in runs(store).items():
        points = [client(store).get_metric_history(run.info.run_id, key) for key in run.data.metrics]
        history = sorted((m.key, m.step, m.timestamp, m.value) for found in points for m in found)
        out[name] = (run.info.run_id, run.info.status, run.data.tags, run.data.params, history)
    return out


def test_every_finished_cell_is_a_child_of_its_rows_parent(mirrored: Path) -> None:
    found = runs(mirrored)
    assert set(found) == {"z_one_way", "z_one_way s0", "z_one_way s1", "shuffled", "shuffled s0"}
    for name in ("z_one_way s0", "z_one_way s1", "shuffled s0"):
        parent = found[name.partition(" ")[0]].info
        assert (found[name].data.tags["mlflow.parentRunId"], "FINISHED") == (parent.run_id, parent.status)
    child, failed = found["z_one_way s1"], found["shuffled s0"]
    assert (child.info.status, child.info.end_time - child.info.start_time) == ("FINISHED", 2500)
    factors = {"into": '["z"]', "model.tokens": "16", "text.tokens": "4"}  # two end alike
    assert child.data.params == {"model.into": '["z"]', "model.merge": "null"} | factors
    tags = {"shapelex.signature": TWO, "shapelex.seed": "1", "shapelex.digest.data": "d" * 64} | factors
    assert tags.items() <= child.data.tags.items() and "tokens" not in child.data.tags
    assert child.inputs.dataset_inputs[0].dataset.digest == "d" * 36
    assert (mirrored / "mlartifacts/quick" / child.info.run_id / "artifacts" / PNG).exists()
    assert (failed.info.status, failed.data.tags["shapelex.error"]) == ("FAILED", ERROR)
    assert found["shuffled"].data.metrics == {"n": 0, "failed": 1}


def test_values_and_curves_equal_the_ledger_whatever_their_number(store: Path) -> None:
    write_trial(store, TWO, epochs=700, config={"g": {f"n{i}": i for i in range(250)}, "long": "x" * 7000})
    track.Mirror(store, PLAN).sync()
    for name, signature, epochs in (("z_one_way s0", ONE, 3), ("z_one_way s1", TWO, 700)):
        ledger = json.loads((store / "trials" / signature / "result.json").read_text())["metrics"]
        finite = {key: value for key, value in ledger.items() if np.isfinite(value)}
        shown = {key: value for key, value in metrics(store)[name].items() if key[:6] != "epoch/"}
        assert shown == finite | {"cost/total_s": 2.5}
        points = client(store).get_metric_history(runs(store)[name].info.run_id, "epoch/train/loss")
        assert sorted((p.step, p.value) for p in points) == [(e, 1 / (e + 1)) for e in range(epochs)]
    params = runs(store)["z_one_way s1"].data.params
    assert len(params) == 251 + 3 and params["long"] == "x" * 6000


def test_a_parent_holds_numpys_mean_and_deviation_and_runs_until_all_cells_are_there(store: Path) -> None:
    (store / "trials" / TWO / "result.json").unlink()
    mirror, values = track.Mirror(store, PLAN), np.array([0.1 + 1 / 3, 0.1 + 2 / 3])
    assert mirror.sync() == 2
    shown, name = metrics(store)["z_one_way"], "test/macro_f1"
    assert runs(store)["z_one_way"].info.status == "RUNNING"
    assert (shown["n"], shown[name]) == (1, values[0]) and f"{name}/sd" not in shown
    write_trial(store, TWO)
    assert mirror.sync() == 1
    shown = metrics(store)["z_one_way"]
    assert runs(store)["z_one_way"].info.status == "FINISHED"
    assert (shown["n"], shown["failed"], shown[name]) == (2, 0, pytest.approx(values.mean(), rel=1e-12))
    assert shown[f"{name}/sd"] == pytest.approx(values.std(ddof=1), rel=1e-12)


def test_over_folds_a_parent_averages_seeds_first_as_the_tables_do(store: Path) -> None:
    scores = {(0, 0): 0.2, (1, 0): 0.4, (0, 1): 0.9, (1, 1): 0.9}
    names = {cell: f"{i:016x}" for i, cell in enumerate(scores)}
    for cell, score in scores.items():
        write_trial(store, names[cell], metrics={"test/macro_f1": score})
    cells = [("row", seed, fold, names[seed, fold]) for seed, fold in scores]
    track.Mirror(store, plan_of(*cells, sweep="folds") | {"unit": "fold"}).sync()
    shown = metrics(store, "folds")["row"]
    assert (shown["n"], shown["test/macro_f1"]) == (2, pytest.approx(0.6))
    assert shown["test/macro_f1/sd"] == pytest.approx(np.std([0.3, 0.9], ddof=1))


@pytest.mark.parametrize("loss", ["nothing", "the mirror", "its record"])
def test_syncing_again_adds_nothing_whatever_was_lost(store: Path, loss: str) -> None:
    mirror = track.Mirror(store, PLAN)
    mirror.sync()
    before = everything(store)
    if loss == "its record":
        mirror.path.unlink()
    assert (mirror if loss == "nothing" else track.Mirror(store, PLAN)).sync() == 0
    assert everything(store) == before
    assert track.pending(store, PLAN) == []
    (store / "mlflow.db").unlink()
    assert len(track.pending(store, PLAN)) == 3


@pytest.mark.parametrize("method", ["log_batch", "log_inputs", "log_artifacts", "set_terminated"])
def test_a_half_written_child_is_completed_and_not_doubled(store: Path, method: str) -> None:
    with patch(f"mlflow.MlflowClient.{method}", side_effect=SystemExit), pytest.raises(SystemExit):
        track.Mirror(store, PLAN).sync()
    assert {run.info.status for run in runs(store).values()} == {"RUNNING"}
    assert track.Mirror(store, PLAN).sync() == 3
    found = everything(store)
    assert [key for key, *_ in found["z_one_way s0"][-1]].count("epoch/train/loss") == 3
    assert sorted(status for _, status, *_ in found.values()) == ["FAILED", *["FINISHED"] * 4]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_retried_trial_replaces_its_failure(store: Path, fresh: bool) -> None:
    mirror = track.Mirror(store, PLAN)
    mirror.sync()
    write_trial(store, BAD, finished_at="2026-11-22T08:00:00Z")
    assert [cell.row for cell in track.pending(store, PLAN)] == ["shuffled"]
    assert [each.sync() for each in (track.Mirror(store, PLAN) if fresh else mirror, mirror)] == [1, 0]
    run = runs(store)["shuffled s0"]
    assert run.info.status == "FINISHED" and "shapelex.error" not in run.data.tags
    assert (metrics(store)["shuffled"]["n"], metrics(store)["shuffled"]["failed"]) == (1, 0)


def test_a_changed_plan_renames_and_removes_without_writing_anew(mirrored: Path) -> None:
    wider = plan_of(*CELLS[:2], ("z_one_way", None, 1, BAD), ("twin", 0, 0, ONE))
    assert len(track.pending(mirrored, wider)) == 4
    assert [track.Mirror(mirrored, wider).sync() for _ in range(2)] == [2, 0]
    children = {"z_one_way s0 f0", "z_one_way s1 f0", "z_one_way f1", "twin s0 f0"}
    assert set(runs(mirrored)) == {"z_one_way", "twin"} | children


def test_what_left_the_ledger_goes_and_what_a_user_deleted_comes_back(mirrored: Path) -> None:
    before, parent = metrics(mirrored), runs(mirrored)["z_one_way"].info
    client(mirrored).delete_run(parent.run_id)
    client(mirrored).delete_experiment(parent.experiment_id)
    track.Mirror(mirrored, PLAN).sync()
    assert metrics(mirrored) == before
    shutil.rmtree(mirrored / "trials" / TWO)
    track.Mirror(mirrored, PLAN).sync()
    found = runs(mirrored)
    assert "z_one_way s1" not in found and "test/macro_f1/sd" not in found["z_one_way"].data.metrics
    assert found["z_one_way s0"].data.tags["mlflow.parentRunId"] == found["z_one_way"].info.run_id


def test_pending_answers_without_importing_mlflow(mirrored: Path) -> None:
    write_trial(mirrored, TWO, finished_at="2026-11-22T08:00:00Z")
    code = "import json, pathlib, sys; from experiments import track;"
    code += "cells = track.pending(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]));"
    code += "print([cell.signature for cell in cells], 'mlflow' in sys.modules)"
    command = [sys.executable, "-c", code, str(mirrored), json.dumps(PLAN)]
    assert subprocess.check_output(command, text=True).split() == [f"['{TWO}']", "False"]


def test_the_database_is_made_whole_and_by_one_process_at_a_time(store: Path) -> None:
    (store / "mlflow.db").unlink()
    with patch("mlflow.store.db.utils._upgrade_db", side_effect=SystemExit), pytest.raises(SystemExit):
        track.Mirror(store, PLAN).connect()
    assert not (store / "mlflow.db").exists()
    assert ui.command(store, 5000)[0] is None
    (store / "mlflow.db").write_bytes(tables())
    thread = threading.Thread(target=track.Mirror(store, PLAN).connect)
    with locked(store / "mlflow.lock", wait=True):
        thread.start()
        thread.join(0.5)
        assert client(store).get_experiment_by_name("quick") is None
    thread.join(20)
    assert client(store).get_experiment_by_name("quick") is not None


def test_a_dead_server_costs_one_line_and_no_long_wait(store: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret@127.0.0.1:1")
    problem = BackgroundMirror(track.Mirror(store, PLAN)).close(timeout_s=30) or ""
    assert "127.0.0.1" in problem and "Connection refused. Nothing is lost" in problem
    assert "\n" not in problem and "s3cret" not in problem + ui.command(store, 5000)[1]
    assert caplog.text == ""
    assert len(track.pending(store, PLAN)) == 3


def test_no_password_is_shown_or_enters_a_command_line(monkeypatch: Any) -> None:
    shown = track.redact("no a://ann:s3cret@h/db, b://c:s3@cret@h, h?password=s3cret&x=1: http://h:5/a?b=c")
    assert shown == "no a://***@h/db, b://***@h, h?password=***&x=1: http://h:5/a?b=c"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:s3cret@h/db")
    command, hint = ui.command(Path("runs"), 5000)
    assert command is not None and "s3cret" not in " ".join([*command, hint])
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "postgresql://ann:s3cret@h/db"


def test_a_nudge_returns_at_once_and_close_tells_how_the_last_sync_ended(tmp_path: Path) -> None:
    mirror, lost = track.Mirror(tmp_path, PLAN), track.MirrorError("no server")
    with patch.object(mirror, "sync", side_effect=[lost, 0]):
        background = BackgroundMirror(mirror)
        background.nudge()
        time.sleep(0.3)
        assert background.close(timeout_s=5) is None
    stuck = threading.Event()
    with patch.object(mirror, "sync", side_effect=stuck.wait):
        background = BackgroundMirror(mirror)
        background.nudge()  # were it to wait for the sync, this test would never end
        assert "not up to date yet" in (background.close(timeout_s=0.05) or "")
        stuck.set()


def test_the_ui_shows_a_store_and_its_server_takes_another(mirrored: Path, monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        command, address = ui.command(mirrored, free.getsockname()[1])
    other, before = mirrored / "other", everything(mirrored)
    shutil.copytree(mirrored / "trials", other / "trials")
    server = subprocess.Popen(command or (), cwd=other, start_new_session=True)

    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(address + path, timeout=20) as answer:
            return bytes(answer.read())

    try:
        for _ in range(300):
            with suppress(OSError):
                fetch("/health")
                break
            time.sleep(0.2)
        assert b"<title>MLflow</title>" in fetch("/")
        assert b"Where?" in fetch("/api/2.0/mlflow/experiments/get-by-name?experiment_name=quick")
        picture = f"/get-artifact?path={PNG}&run_uuid="
        assert fetch(picture + runs(mirrored)["z_one_way s0"].info.run_id) == b"made up"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for sweep, row in {"remote": "z_one_way", "quick": "another"}.items():
            plan = plan_of((row, 0, 0, ONE), (row, 1, 0, TWO), sweep=sweep)
            assert [track.Mirror(other, plan).sync() for _ in range(2)] == [2, 0]
        assert metrics(other, "remote")["z_one_way"] == metrics(other, "quick")["z_one_way"]
        assert fetch(picture + runs(other, "remote")["z_one_way s0"].info.run_id) == b"made up"
        assert {path.name for path in other.iterdir()} == {"trials", "sweeps", "store.json", "mlflow.lock"}
        assert ui.command(other, 5000)[0] is None and address in ui.command(other, 5000)[1]
        now = everything(other)  # the other store's sweep of the same name left this one alone
        assert {name: now[name] for name in before} == before and "another s0" in now
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def test_a_run_whose_params_no_longer_fit_its_row_is_replaced_and_others_go_on(
    mirrored: Path,
) -> None:
    before = {name: run.info.run_id for name, run in runs(mirrored).items()}
    plan = json.loads(json.dumps(PLAN))
    for row in plan["rows"]:
        row["differs"]["train.lr"] = 0.1
    assert track.Mirror(mirrored, plan).sync() == 0
    found = runs(mirrored)
    assert {name: run.info.run_id for name, run in found.items()} == before
    assert all(run.data.params["lr"] == run.data.tags["lr"] == "0.1" for run in found.values())
    plan["rows"][0]["differs"]["train.lr"] = 0.2
    assert [track.Mirror(mirrored, plan).sync() for _ in range(2)] == [2, 0]
    found = runs(mirrored)
    kept = {name for name, run in found.items() if run.info.run_id == before[name]}
    assert kept == {"shuffled", "shuffled s0"}
    assert found["z_one_way s1"].data.params["lr"] == found["z_one_way"].data.params["lr"] == "0.2"
    del plan["rows"][0]["differs"]["train.lr"]
    assert [track.Mirror(mirrored, plan).sync() for _ in range(2)] == [2, 0]
    assert "lr" not in runs(mirrored)["z_one_way"].data.params.keys() | runs(mirrored)["z_one_way"].data.tags
