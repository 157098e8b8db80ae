"""`shapelex sync`, of results that were made up."""

import threading
from pathlib import Path

import pytest
from mirror_fixture import empty, runs, write_trial
from typer.testing import CliRunner, Result

from experiments import track
from experiments.cli import app
from experiments.ledger import Store
from experiments.sweep import load

__all__ = ["empty"]  # a fixture


@pytest.fixture
def file(empty: Path) -> Path:
    """A sweep of three cells, one of which has its result."""
    path = empty / "tiny.yaml"
    path.write_text("# Which?\nseeds: 3\nvariants:\n  fcn: {baseline: fcn}\n")
    write_trial(empty, next(iter(load(path, Store(empty)).configs)))
    return path


def sync(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["sync", str(file), "--store", str(file.parent), *options])


def test_sync_says_what_it_wrote_and_what_is_shown_where_and_twice_writes_nothing(file: Path) -> None:
    for wrote in (1, 0):
        done = sync(file)
        first, second = done.stdout.splitlines()
        assert first == f"tiny: wrote {wrote} cells; MLflow shows 1 FINISHED of 3."
        assert second == f"Experiment 'tiny' at {track.own(file.parent)}"
        assert (done.exit_code, done.stderr) == (0, "")
    assert set(runs(file.parent, "tiny")) == {"fcn", "fcn s0"}


def test_an_mlflow_that_cannot_be_reached_is_one_line_and_status_1(file: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret@127.0.0.1:1")
        done = sync(file)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Connection refused. Nothing is lost" in done.stderr and "s3cret" not in done.stderr


def test_where_another_process_mirrors_the_sweep_sync_waits_for_what_it_shows(file: Path) -> None:
    mirror = track.Mirror(file.parent, load(file, Store(file.parent)).plan())
    with mirror.alone():
        late = sync(file, "--wait-s", "0.1")
        assert late.exit_code == 1 and "mirrors it already, and is 1 cells behind" in late.stderr
        threading.Timer(1, mirror.sync).start()
        done = sync(file)
        assert done.exit_code == 0 and done.stdout.endswith("mirrors it, and MLflow shows every result.\n")
