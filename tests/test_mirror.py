"""The mirror while trials run: live curves, killed and resumed trials, and one process a sweep."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from mirror_fixture import (
    BAD,
    ERROR,
    ONE,
    PLAN,
    TWO,
    curve,
    empty,
    grow,
    plan_of,
    result_of,
    runs,
    shown,
    store,
    undisturbed,
    worker,
    write_trial,
)

from experiments import background, lease, track
from experiments.ledger import Locked, Store

__all__ = ["empty", "store"]  # fixtures
CHILD = "z_one_way s0"


def epochs(store: Path, name: str = CHILD) -> list[int]:
    """The steps of the loss that MLflow has, each as often as it has it."""
    return [step for key, step, _ in curve(store, runs(store)[name]) if key == "epoch/train/loss"]


def test_a_killed_and_resumed_trial_is_one_run_whose_curve_has_each_epoch_once(empty: Path) -> None:
    mirror = track.Mirror(empty, PLAN)
    first = worker(empty, ONE, epochs=2)
    assert [mirror.sync(), mirror.sync()] == [1, 0]
    begun = runs(empty)[CHILD].info
    assert set(runs(empty)) == {"z_one_way", CHILD, "shuffled"}
    assert (begun.status, epochs(empty)) == ("RUNNING", [0, 1])
    first.kill()
    first.wait()
    assert [len(track.pending(empty, PLAN)), mirror.sync(), mirror.sync()] == [1, 1, 0]
    assert runs(empty)[CHILD].info.status == "KILLED" and track.pending(empty, PLAN) == []
    work = lease.claim(empty / "trials" / ONE)  # from a checkpoint: an epoch that was shown is trained again
    grow(work, 1)
    assert mirror.sync() == 1
    assert (runs(empty)[CHILD].info.status, epochs(empty)) == ("RUNNING", [0, 1])
    grow(work, 4, time_s=0.7)
    assert track.Mirror(empty, PLAN).sync() == 1
    assert epochs(empty) == [0, 1, 2, 3]
    work.accept(result_of(ONE))
    assert [track.Mirror(empty, PLAN).sync() for _ in range(2)] == [1, 0]
    assert (runs(empty)[CHILD].info.run_id, runs(empty)[CHILD].info.status) == (begun.run_id, "FINISHED")
    assert epochs(empty) == [0, 1, 2, 3] and shown(empty) == undisturbed(empty)


def test_a_resumed_trial_that_trained_otherwise_gets_a_fresh_run(empty: Path) -> None:
    work = lease.claim(empty / "trials" / ONE)
    grow(work, 3)
    mirror = track.Mirror(empty, PLAN)
    mirror.sync()
    before = runs(empty)[CHILD].info.run_id
    (work.folder / "metrics.jsonl").write_text('{"epoch": 0, "train/loss": 0.25}\n')
    work.accept(result_of(ONE))
    assert [mirror.sync(), mirror.sync()] == [1, 0]
    assert epochs(empty) == [0] and runs(empty)[CHILD].info.run_id != before
    assert shown(empty) == undisturbed(empty)


def test_a_run_says_how_an_attempt_ended_until_there_is_a_result(empty: Path) -> None:
    mirror, trial = track.Mirror(empty, PLAN), empty / "trials" / BAD
    lease.claim(trial).ended("out of memory", "at batch 3")
    mirror.sync()
    run, tag = runs(empty)["shuffled s0"], "shapelex.ended"
    assert (run.info.status, run.data.tags[tag]) == ("KILLED", "out of memory: at batch 3")
    lease.claim(trial).accept(result_of(BAD, status="failed", failure="diverged", error=ERROR, metrics={}))
    mirror.sync()
    found = runs(empty)["shuffled s0"]
    assert (found.info.run_id, found.info.status) == (run.info.run_id, "FAILED")
    assert found.data.tags["shapelex.failure"] == "diverged" and tag not in found.data.tags
    assert shown(empty) == undisturbed(empty)


def test_a_result_of_another_attempt_in_the_same_second_is_news(empty: Path) -> None:
    mirror, trial = track.Mirror(empty, PLAN), empty / "trials" / ONE
    for score in (0.1, 0.2):
        lease.claim(trial).accept(result_of(ONE, metrics={"test/macro_f1": score}))
        assert len(track.pending(empty, PLAN)) == 1
        assert mirror.sync() == 1
        assert runs(empty)[CHILD].data.metrics["test/macro_f1"] == score


def test_an_evaluation_is_shown_beside_the_result_that_it_belongs_to(store: Path) -> None:
    mirror, name = track.Mirror(store, PLAN), "meaning/nmi"
    assert mirror.sync() == 3
    path, belongs = store / "trials" / ONE / "evaluation.json", {"signature": ONE, "attempt": None}
    for finished, value, seen in (
        ("2026-11-21T21:00:00Z", 0.5, 0.5),
        ("2026-11-21T21:00:00Z", 0.6, 0.6),
        ("", 1, None),
    ):
        path.write_text(json.dumps(belongs | {"finished_at": finished, "metrics": {name: value}}))
        assert [cell.signature for cell in track.pending(store, PLAN)] == [ONE]
        assert mirror.sync() == 1 and mirror.sync() == 0
        assert runs(store)[CHILD].data.metrics.get(name) == seen
        assert runs(store)[CHILD].data.metrics["test/macro_f1"] == result_of(ONE)["metrics"]["test/macro_f1"]
    assert shown(store) == undisturbed(store)


def test_another_machines_trial_runs_as_long_as_its_heart_beats(empty: Path, monkeypatch: Any) -> None:
    work = lease.claim(empty / "trials" / ONE)
    file = work.folder / "lease.json"
    work.release()
    told = {"host": "far", "machine": "elsewhere", "pid": 1, "born": "0"}
    file.write_text(json.dumps(told))
    monkeypatch.setattr(lease, "STALE_S", 0.2)
    mirror = track.Mirror(empty, PLAN)
    for beats in (True, True, False):
        mirror.sync()
        time.sleep(0.3)
        if beats:
            os.utime(file)
        mirror.sync()
        assert runs(empty)[CHILD].info.status == ("RUNNING" if beats else "KILLED")


def test_looking_again_reads_nothing_that_has_not_changed(empty: Path) -> None:
    signatures = [f"{i:016x}" for i in range(1000)]
    for signature in signatures:
        folder = empty / "trials" / signature
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result_of(signature)))
    cells = [("row", seed, 0, signature) for seed, signature in enumerate(signatures)]
    mirror = track.Mirror(empty, plan_of(*cells))
    assert len(mirror.watch.look()) == 1000
    with patch.object(Store, "result", side_effect=AssertionError("read again")):
        assert mirror.watch.look() == set()
    write_trial(empty, signatures[7])
    assert mirror.watch.look() == {signatures[7]}


def test_a_cell_that_mlflow_refuses_keeps_no_other_waiting(store: Path) -> None:
    write_trial(store, ONE, config={"no;name": 1})
    for _ in range(2):
        with pytest.raises(track.MirrorError, match="no;name"):
            track.Mirror(store, PLAN).sync()
    assert {runs(store)[name].info.status for name in ("z_one_way s1", "shuffled")} == {"FINISHED"}
    assert [cell.signature for cell in track.pending(store, PLAN)] == [ONE]
    write_trial(store, ONE)
    assert track.Mirror(store, PLAN).sync() == 1 and shown(store) == undisturbed(store)


def test_one_process_mirrors_a_sweep_and_when_it_dies_another_does(store: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(background, "EVERY_S", 0.1)
    monkeypatch.setattr(background, "IDLE_S", 0.1)
    (store / "trials" / TWO / "result.json").rename(store / "later.json")
    track.Mirror(store, PLAN).sync()
    if not (pid := os.fork()):
        background.BackgroundMirror(track.Mirror(store, PLAN)).nudge()
        time.sleep(60)
    holds = track.Mirror(store, PLAN)
    for _ in range(100):
        time.sleep(0.1)
        try:
            holds.sync()
        except Locked as holder:
            assert str(holder) in ("", f"pid {pid}")  # it may not have said so yet
            break
    else:
        raise AssertionError("nobody mirrors")
    second = background.BackgroundMirror(track.Mirror(store, PLAN))
    (store / "later.json").rename(store / "trials" / TWO / "result.json")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert second.close(timeout_s=30) is None
    assert track.pending(store, PLAN) == [] and shown(store) == undisturbed(store)


def test_two_sweeps_of_a_store_are_mirrored_at_once(store: Path) -> None:
    cells = [(f"row{i}", seed, 0, s) for i in range(4) for seed, s in enumerate((ONE, TWO))]
    plans, children = [plan_of(*cells, sweep=name) for name in ("left", "right")], []
    for plan in plans:
        if not (pid := os.fork()):
            os._exit(0 if track.Mirror(store, plan).sync() == 8 else 1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    for plan in plans:
        assert shown(store, plan["sweep"]) == undisturbed(store, plan)
