"""Shared by the harness's tests: five micro trials run once by the real command line, and fresh stores that
borrow the windows and text embeddings which that run cached."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest

from experiments import lease
from experiments.code import source_hash
from experiments.execute import Job, Task
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.sweep import load
from experiments.trial import run

MICRO = """# Does text help?
set:
  model: {patches: 5, tokens: 5, width: 16, heads: 2, encoder_layers: 1, tokenizer_layers: 1, codes: 8, shape_length: 16}
  train: {epochs: 2, batch_size: 10}
"""  # noqa: E501
TINY = f"""{MICRO}
seeds: 2
reference: plain
contrasts: [[text, plain]]
variants:
  plain: {{losses.ce_series: 0.1}}
  text: {{model.guidance.attention: two_way, losses: {{info_nce: 0.1, consistency: 1, text_recon: 1}}}}
  statistics: {{baseline: statistics}}
"""
# A job that a shell runs in the background ignores Ctrl-C, and so would everything that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
SHAPELEX = str(Path(sys.executable).parent / "shapelex")


def environment(**changes: str) -> dict[str, str]:
    """This process's, without a user's settings that would lead a test to a store or server of theirs."""
    return {
        k: v for k, v in os.environ.items() if k not in ("SHAPELEX_STORE", "MLFLOW_TRACKING_URI")
    } | changes


class Finished(NamedTuple):
    """A sweep that the command line ran undisturbed, and what it printed."""

    file: Path
    store: Store
    output: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    command = [SHAPELEX, "run", "tiny.yaml", "--workers", "2"]
    ran = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True, timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Finished(folder / "tiny.yaml", Store(folder / "runs"), ran.stdout)


@pytest.fixture(scope="session")
def new_store(finished: Finished) -> Callable[[Path], Store]:
    def make(root: Path) -> Store:
        root.mkdir(parents=True)
        (root / "cache").symlink_to(finished.store.cache)
        return Store(root)

    return make


@pytest.fixture
def store(tmp_path: Path, new_store: Callable[[Path], Store]) -> Store:
    return new_store(tmp_path / "runs")


def jobs_of(sweep: Sweep, store: Store) -> list[Job]:
    """A job for each of the sweep's trials, in the plan's order."""
    code = source_hash()
    return [
        Job(s, config.model_dump(mode="json"), sweep.digests[s], str(store.root), "cpu", code, time.time())
        for s, config in sweep.configs.items()
    ]


def task_of(job: Job) -> Task:
    return Task("run", [job], Path(job.store) / "launch.log")


def run_trial(job: Job) -> str | None:
    """Here and now, whether or not it has a result already."""
    known = lease.accepted(Store(Path(job.store)).trial(job.signature))
    return run([job._replace(accepted=known)], False)


@pytest.fixture
def jobs(store: Store) -> Callable[[str], list[Job]]:
    """Jobs in `store` for the variants that one line of YAML gives."""

    def plan(variants: str) -> list[Job]:
        file = store.root / "micro.yaml"
        file.write_text(f"{MICRO}  figures: false\nvariants: {{{variants}}}\n")
        return jobs_of(load(file, store), store)

    return plan


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of raw files, elsewhere and empty."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("SHAPELEX_DATA", str(folder))
    return folder


def states(store: Store) -> dict[str, list[str]]:
    """The states of each signature's Optuna trials, in their order, as the only study of `store` has them."""
    found: dict[str, list[str]] = {}
    for trial in optuna.load_study(study_name=None, storage=f"sqlite:///{store.root}/optuna.db").trials:
        found.setdefault(trial.user_attrs["signature"], []).append(trial.state.name)
    return found
