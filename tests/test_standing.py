"""How a sweep stands: what is counted, what the score is over, and that a look reads no more than it must."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scipy.stats
from standing_fixture import end, epochs, made_up, of

from analysis import load, stats
from experiments import lease
from experiments.ledger import Store
from experiments.standing import Standing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def counts(standing: Standing, row: str) -> dict[str, int]:
    standing.look()
    return dict(next(line.counts for line in standing.lines() if line.name == row))


def test_each_cell_is_in_one_state(store: Store) -> None:
    sweep = made_up(["a", "b"])
    standing, (first, second, third, _) = Standing(sweep, store), of(sweep, "a")
    assert counts(standing, "a") == {"waiting": 4}
    end(store, first, 0.5)
    end(store, second, None)
    held = lease.claim(store.trial(third))
    assert counts(standing, "a") == {"done": 1, "failed": 1, "running": 1, "waiting": 1}
    assert counts(standing, "b") == {"waiting": 4} and standing.running() == 1
    held.ended("killed", "by a person")
    assert counts(standing, "a") == {"done": 1, "failed": 1, "waiting": 2}
    assert standing.left() == [third]
    retry = lease.claim(store.trial(second))
    assert counts(standing, "a") == {"done": 1, "running": 1, "waiting": 2}
    retry.accept(end(store, second, 0.6))
    assert counts(standing, "a") == {"done": 2, "waiting": 2} and standing.running() == 0


def test_a_trial_whose_process_died_does_not_run(store: Store) -> None:
    sweep = made_up(["a"])
    first, standing = of(sweep, "a")[0], Standing(sweep, store)
    code = "import sys; from pathlib import Path; from experiments import lease; lease.claim(Path(sys.argv[1])); print('mine', flush=True); sys.stdin.read()"  # noqa: E501
    held = subprocess.Popen(
        [sys.executable, "-c", code, str(store.trial(first))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert held.stdout is not None and held.stdout.readline() == b"mine\n"
    assert counts(standing, "a") == {"running": 1, "waiting": 3}
    held.kill()
    held.wait()
    assert counts(standing, "a") == {"waiting": 4}


def test_a_look_reads_only_trials_that_changed_or_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = made_up(["a"], seeds=5, folds=5)
    done, failed, runs, *_ = of(sweep, "a")
    end(store, done, 0.5)
    end(store, failed, None)
    old = time.time() - 60
    with_lease = lease.claim(store.trial(runs))
    for path in (store.trial(done), store.trial(failed), store.root / "trials"):
        os.utime(path, (old, old))
    standing, read = Standing(sweep, store), list[str]()
    standing.look()
    monkeypatch.setattr(standing, "_read", read.append)
    standing.look()
    assert read == [runs]
    end(store, failed, 0.4)
    os.utime(store.trial(failed), (old + 1, old + 1))
    standing.look()
    assert sorted(read) == sorted([runs, runs, failed])
    with_lease.release()


@pytest.mark.parametrize(("split", "unit"), [("subject_kfold", "fold"), ("official", "seed")])
def test_the_score_is_that_of_tables(store: Store, split: str, unit: str) -> None:
    sweep = made_up(["a"], seeds=3, folds=3 if unit == "fold" else 1, split=split)
    for i, signature in enumerate(of(sweep, "a")[:-1]):
        end(store, signature, 0.5 + 0.01 * i * i, environment={})
    plan = {"schema": 1, "unit": unit, "cells": [cell._asdict() for cell in sweep.cells]}
    path = store.sweep("made_up") / "plan.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(plan))
    frame = load.frame(store.root, "made_up")
    expected = stats.summary(frame, "val/macro_f1", "fold" if unit == "fold" else "seed").loc["a"]
    standing = Standing(sweep, store)
    standing.look()
    (line,) = standing.lines()
    assert line.mean is not None and line.half is not None
    assert line.pairs == expected["n"] and line.mean == pytest.approx(expected["mean"])
    assert (line.mean - line.half, line.mean + line.half) == pytest.approx(
        (expected["low"], expected["high"])
    )


def test_an_interval_by_hand(store: Store) -> None:
    sweep = made_up(["a"], seeds=1, folds=2)
    for signature, score in zip(of(sweep, "a"), (0.4, 0.6), strict=True):
        end(store, signature, score)
    standing = Standing(sweep, store)
    standing.look()
    half = standing.lines()[0].half
    assert half == pytest.approx(12.706 * 0.1, rel=1e-4)
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, 1) * 0.1)


def test_one_pair_has_a_score_and_no_interval_and_a_failure_has_neither(store: Store) -> None:
    sweep = made_up(["a", "b"], folds=1)
    end(store, of(sweep, "a")[0], 0.5)
    end(store, of(sweep, "b")[0], None)
    standing = Standing(sweep, store)
    standing.look()
    assert [line[2:] for line in standing.lines()] == [(0.5, None, 1, True), (None, None, 0, False)]


def test_the_row_that_is_best_on_validation_is_marked_and_marks_move(store: Store) -> None:
    sweep = made_up(["a", "b", "c"])
    standing = Standing(sweep, store)
    for row, score, best in (("a", 0.4, "a"), ("b", 0.6, "b"), ("c", 0.5, "b")):
        standing.take(of(sweep, row)[0], end(store, of(sweep, row)[0], score))
        assert [line.name for line in standing.lines() if line.best] == [best]


def test_epochs_count_what_ended_whole_and_what_runs_in_its_attempt(store: Store) -> None:
    sweep = made_up(["a"])
    first, second, third, _ = of(sweep, "a")
    end(store, first, 0.5)  # it stopped early: there are no more to come
    end(store, second, None)
    held = lease.claim(store.trial(third))
    epochs(held.folder, 4)
    epochs(store.trial(third), 9)  # of an earlier result
    standing = Standing(sweep, store)
    standing.look()
    assert standing.epochs() == (24, 40)
    held.release()


def test_the_time_left_is_what_done_trials_took_by_as_many_as_run(store: Store) -> None:
    sweep = made_up(["a", "b"], seeds=4, folds=1)
    standing = Standing(sweep, store)
    standing.look()
    assert standing.left_s() is None
    end(store, of(sweep, "a")[0], 0.5, cost={"total_s": 100.0})
    end(store, of(sweep, "b")[0], 0.5, cost={"total_s": 10.0})
    end(store, of(sweep, "b")[1], None)
    standing.look()
    assert standing.left_s() is None  # nothing runs
    leases = [lease.claim(store.trial(of(sweep, "a")[i])) for i in (1, 2)]
    epochs(leases[0].folder, 5)
    standing.look()
    assert standing.left_s() == pytest.approx((50 + 100 + 100 + 10 + 10) / 2)
    for held in leases:
        held.release()
