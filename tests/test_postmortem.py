"""Why what failed failed, as `status` tells a person, on a made-up sweep."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from standing_fixture import end, made_up, of

from experiments import lease, postmortem
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.standing import Standing
from experiments.studies import Studies


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def told(sweep: Sweep, store: Store, every: bool = False) -> list[str]:
    standing = Standing(sweep, store)
    standing.look()
    return postmortem.failed(standing, Studies(sweep, store), every)


def test_a_failure_has_its_word_error_attempts_log_and_advice(store: Store) -> None:
    sweep = made_up(["[red]"])
    signature = of(sweep, "[red]")[1]
    folder = store.trial(signature)
    end(store, signature, None, error="OutOfMemoryError: \x1b[1mno room", failure="out of memory", attempt=3)
    log = folder / "log.txt"
    log.write_text("old\n" * 9 + "1 %\r2 %\n\n\x1b]0;t\x07\x1b[31mTrace\x1b[0m\x00\n  ^^^^\nlast\n")
    lease.note(folder, 4, "killed", "SIGKILL")
    assert told(sweep, store) == [
        "failed: [red] seed 0 fold 1: OutOfMemoryError: no room",
        "        out of memory; attempt 3; attempt 4 killed: SIGKILL",
        "        | old",
        "        | old",
        "        | 2 %",
        "        | Trace",
        "        | last",
        f"        {folder}/log.txt; a smaller model or train.batch_size, or fewer --workers on its device; "
        "then run it again with --retry-failed",
    ]


def test_an_older_failure_without_a_word_or_a_log_is_told_of_all_the_same(store: Store) -> None:
    sweep = made_up(["a"], seeds=1, folds=1)
    end(store, of(sweep, "a")[0], None)
    assert told(sweep, store) == [
        "failed: a seed 0: ValueError: no",
        "        run it again with --retry-failed",
    ]


def test_failures_that_are_alike_are_told_once_and_all_of_them_if_asked(store: Store) -> None:
    sweep = made_up(["a", "b"], seeds=2, folds=2)
    for signature in of(sweep, "b"):
        end(store, signature, None)
    end(store, of(sweep, "a")[0], None, error="KeyError: x")
    lines = told(sweep, store)
    assert [line for line in lines if line.startswith("failed")] == [
        "failed: a seed 0 fold 0: KeyError: x",
        "failed: b seed 0 fold 0: ValueError: no",
    ]
    assert lines[-1] == "        the same error in 3 more: b seed 0 fold 1, b seed 1 fold 0, b seed 1 fold 1"
    assert sum(line.startswith("failed") for line in told(sweep, store, every=True)) == 5


def test_of_many_kinds_of_failures_five_are_told(store: Store) -> None:
    sweep = made_up(["a"], seeds=4, folds=2)
    for i, signature in enumerate(of(sweep, "a")):
        end(store, signature, None, error=f"ValueError: {i}")
    lines = told(sweep, store)
    assert sum(line.startswith("failed") for line in lines) == 5
    assert lines[-1] == "and 3 more failed: shapelex status --all"
    assert sum(line.startswith("failed") for line in told(sweep, store, every=True)) == 8


def test_every_failure_word_of_a_trial_has_its_advice() -> None:
    assert postmortem.ADVICE.keys() == {
        "diverged",
        "out of memory",
        "crashed",
        "timed out",
        "error",
        "search",
    }


def test_a_trial_that_waits_to_be_tried_again_says_how_its_attempts_ended(store: Store) -> None:
    sweep = made_up(["a"], seeds=7, folds=1)
    for signature in of(sweep, "a"):
        held = lease.claim(store.trial(signature))
        held.ended("crashed", "killed by SIGKILL")
    running = lease.claim(store.trial(of(sweep, "a")[0]))
    standing = Standing(sweep, store)
    standing.look()
    lines = postmortem.waiting(standing)
    ended = "attempt 1 crashed: killed by SIGKILL"
    assert lines[0] == f"to be tried again: a seed 1: 1 attempt, the last: {ended}"
    assert len(lines) == 6 and lines[-1] == "and 1 more to be tried again"
    running.release()


def test_the_tail_of_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"\xff" * 10**6 + b"\n" + b"x" * 10**6 + b"\nlast \xff\n")
    assert [len(line) for line in postmortem.tail(log)] == [200, 6]
    log.unlink()
    log.mkdir()
    assert postmortem.tail(log) == []


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "x.yaml").write_text("seeds: 2\nvariants: {a: {}, b: {baseline: statistics}}\n")
    code = (
        "import sys; from experiments.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print({'torch', 'mlflow', 'optuna', 'lightning', 'sklearn', 'pandas', 'scipy'} & sys.modules.keys())"
    )
    command = [sys.executable, "-P", "-c", code, "status", "x.yaml", "--store", "store"]
    path = environment(PYTHONPATH=os.pathsep.join(sys.path))
    ran = subprocess.run(command, cwd=tmp_path, env=path, text=True, capture_output=True, timeout=60)
    assert ran.stdout.splitlines()[-2:] == ["0 done, 0 failed, 3 waiting of 3 cells", "set()"], ran.stderr
