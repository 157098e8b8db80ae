"""A made-up ledger for the mirror, and what MLflow shows of it. No number in it was measured."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from experiments import lease, track

ONE, TWO, BAD = "1" * 16, "2" * 16, "3" * 16
FACTORS = {"model.guidance.into": ["z"], "model.tokens": 16, "text.tokens": 4}
ERROR, PNG = "RuntimeError: loss is not finite", "figures/reconstruction.png"
PYTHON = [sys.executable, "-P", "-c"]


def result_of(signature: str, **changes: Any) -> dict[str, Any]:
    scores = {"test/macro_f1": 0.1 + int(signature[0]) / 3, "val/macro_f1": 0.3}
    result = {"signature": signature, "status": "done", "error": None, "finished_at": "2026-11-21T21:00:00Z"}
    result |= {"config": {"model": {"into": ["z"], "merge": None}}, "digests": {"data": "d" * 64}}
    return result | {"data": {"name": "made_up"}, "metrics": scores, "cost": {"total_s": 2.5}, **changes}


def line(epoch: int, time_s: float = 0.5) -> str:
    return json.dumps({"epoch": epoch, "train/loss": 1 / (epoch + 1), "val/macro_f1": 0.2, "time_s": time_s})


def write_trial(store: Path, signature: str, epochs: int = 3, **changes: Any) -> None:
    """A made-up trial, as an older launch left it: a value that is none, a last line that is torn."""
    changes = {"metrics": result_of(signature)["metrics"] | {"codes/perplexity": np.nan}} | changes
    folder = store / "trials" / signature
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / PNG).write_bytes(b"made up")
    (folder / "metrics.jsonl").write_text("\n".join([*map(line, range(epochs)), '{"epoch": 99, "trai']))
    (folder / "result.json").write_text(json.dumps(result_of(signature, **changes)))


def grow(work: lease.Lease, epochs: int, time_s: float = 0.5) -> None:
    """Write the attempt's curve from the start, as a resumed trial does."""
    (work.folder / "metrics.jsonl").write_text("".join(line(e, time_s) + "\n" for e in range(epochs)))


def plan_of(*cells: tuple[str, int | None, int, str], sweep: str = "quick") -> dict[str, Any]:
    rows = [{"name": r, "variant": r, "differs": FACTORS} for r in dict.fromkeys(cell[0] for cell in cells)]
    named = [dict(zip(("row", "seed", "fold", "signature"), cell, strict=True)) for cell in cells]
    plan = {"sweep": sweep, "question": "Where?", "dataset": "made_up", "unit": "seed"}
    return plan | {"rows": rows, "cells": named}


CELLS = (("z_one_way", 0, 0, ONE), ("z_one_way", 1, 0, TWO), ("shuffled", 0, 0, BAD))
PLAN = plan_of(*CELLS)


@cache
def tables() -> bytes:
    """A database with MLflow's tables, since making them takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        track.Mirror(Path(folder), plan_of(sweep="template")).connect()
        return (Path(folder) / "mlflow.db").read_bytes()


@pytest.fixture
def empty(tmp_path: Path) -> Any:
    """A store without trials, whose database has its tables."""
    with patch.dict(os.environ, MLFLOW_TRACKING_URI="", MLFLOW_BACKEND_STORE_URI=""):
        (tmp_path / "mlflow.db").write_bytes(tables())
        yield tmp_path


@pytest.fixture
def store(empty: Path) -> Path:
    """Three cells in two rows, one of them failed; nothing mirrored yet."""
    write_trial(empty, ONE)
    write_trial(empty, TWO)
    write_trial(empty, BAD, status="failed", error=ERROR, metrics={}, cost={}, data={})
    return empty


def client(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(track.uri(store))


def runs(store: Path, sweep: str = "quick") -> dict[str, Any]:
    found = client(store).search_runs([client(store).get_experiment_by_name(sweep).experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "two runs of one name"
    return {run.info.run_name: run for run in found}


def curve(store: Path, run: Any) -> list[tuple[str, int, float]]:
    points = [client(store).get_metric_history(run.info.run_id, key) for key in run.data.metrics]
    return sorted((p.key, p.step, p.value) for found in points for p in found)


def shown(store: Path, sweep: str = "quick") -> dict[str, Any]:
    """All that a person sees of a sweep, whatever ids its runs have: a parent's history is its own."""
    found, out = runs(store, sweep), {}
    rows = {run.info.run_id: name for name, run in found.items()}
    for name, run in found.items():
        tags = dict(run.data.tags)
        child = tags.get("shapelex.kind") == "trial"
        if child:
            tags["mlflow.parentRunId"] = rows[tags["mlflow.parentRunId"]]
        tags = {k: v for k, v in tags.items() if k not in ("mlflow.user", "mlflow.source.name")}
        inputs = [(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs]
        points = curve(store, run) if child else []
        out[name] = (run.info.status, tags, run.data.params, run.data.metrics, points, inputs)
    return out


def undisturbed(store: Path, plan: dict[str, Any] = PLAN) -> dict[str, Any]:
    """What a mirror shows that was never disturbed, of a copy of the ledger."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, MLFLOW_TRACKING_URI=""):
        copy = Path(folder)
        shutil.copytree(store / "trials", copy / "trials")
        shutil.copy(store / "store.json", copy)
        (copy / "mlflow.db").write_bytes(tables())
        track.Mirror(copy, plan).sync()
        return shown(copy, plan["sweep"])


def worker(store: Path, signature: str, epochs: int) -> subprocess.Popen[str]:
    """Another process that works at a trial until it is killed, with its curve written."""
    code = "import sys, time; from pathlib import Path; from experiments import lease\n"
    code += "work = lease.claim(Path(sys.argv[1]))\n"
    code += "(work.folder / 'metrics.jsonl').write_text(sys.argv[2]); print('ready', flush=True)\n"
    code += "time.sleep(600)"
    lines = "".join(line(e) + "\n" for e in range(epochs))
    command = [*PYTHON, code, str(store / "trials" / signature), lines]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


class Server:
    """A real `mlflow server`, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mlflow.db").write_bytes(tables())
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "mlartifacts")]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | track.ENVIRONMENT
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=20):
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
