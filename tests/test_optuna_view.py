"""Optuna's database as a view of the ledger: a stop, loss or lock leaves it behind, and a sync catches up."""

import json
import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial
from search_fixture import EPOCHS, SEARCHED, finish, line, play, put, score, step
from standing_fixture import end

from experiments.lease import claim
from experiments.ledger import Store, read_json
from experiments.optuna_view import BackgroundRecord, Record, RecordError
from experiments.plan import Sweep
from experiments.studies import Asked, Studies
from experiments.sweep import load

GRID = """# Which rate?
set: {train.epochs: 6}
grid: {train.lr: [1e-3, 1e-2], model.codes: [16, 32]}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    store.root.mkdir()
    return store


@pytest.fixture
def grid(tmp_path: Path, store: Store) -> Sweep:
    return load(put(tmp_path / "grid.yaml", GRID), store)


@pytest.fixture
def search(tmp_path: Path) -> Path:
    return put(tmp_path / "which.yaml", SEARCHED)


def cells(sweep: Sweep) -> list[Asked]:
    return [Asked(name, c, sweep.digests[name], "", 0, 0, "") for name, c in sweep.configs.items()]


def view(store: Store) -> dict[str, list[FrozenTrial]]:
    """All trials of every study, as a dashboard reads them."""
    storage = f"sqlite:///{store.root}/optuna.db"
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


def states(store: Store, tag: str = "signature") -> dict[str, list[str]]:
    """By key, the states of the only study that has it, in their order."""
    found: dict[str, list[str]] = {}
    for trial in (trial for trials in view(store).values() for trial in trials):
        if tag in trial.user_attrs:
            found.setdefault(trial.user_attrs[tag], []).append(trial.state.name)
    return found


def test_every_finished_cell_of_a_grid_is_one_complete_trial_with_its_epochs(
    grid: Sweep, store: Store
) -> None:
    record = Record(grid, store)
    for asked in cells(grid):
        finish(store, asked)
        record.sync()
    record.sync()
    Record(grid, store).sync()
    (trials,) = view(store).values()
    assert states(store) == {name: ["COMPLETE"] for name in grid.configs}
    for trial in trials:
        config = grid.configs[trial.user_attrs["signature"]]
        assert trial.value == score(config, EPOCHS - 1)
        assert trial.intermediate_values == {epoch: score(config, epoch) for epoch in range(EPOCHS)}
        assert (trial.params["lr"], trial.params["codes"]) == (config.train.lr, config.model.codes)


def test_a_trial_shows_as_it_runs_fails_with_its_process_and_runs_again(grid: Sweep, store: Store) -> None:
    asked, record = cells(grid)[0], Record(grid, store)
    lease = claim(store.trial(asked.signature))
    step(store, asked)
    record.sync()
    step(store, asked)
    record.sync()
    (trial,) = next(iter(view(store).values()))
    assert trial.state.name == "RUNNING"
    assert trial.intermediate_values == {epoch: score(asked.config, epoch) for epoch in (0, 1)}
    lease.release()
    record.sync()
    assert states(store) == {asked.signature: ["FAIL"]}
    lease = claim(store.trial(asked.signature))
    record.sync()
    assert states(store) == {asked.signature: ["FAIL", "RUNNING"]}
    finish(store, asked, lease=lease)
    record.sync()
    assert states(store) == {asked.signature: ["FAIL", "COMPLETE"]}


def test_an_attempt_that_followed_another_unseen_is_another_trial(grid: Sweep, store: Store) -> None:
    asked = cells(grid)[0]
    for _ in range(2):
        lease = claim(store.trial(asked.signature))
        Record(grid, store).sync()
        lease.release()
    assert states(store) == {asked.signature: ["FAIL", "RUNNING"]}


def test_a_failed_result_is_a_failed_trial(grid: Sweep, store: Store) -> None:
    asked = cells(grid)[0]
    end(store, asked.signature, None)
    for _ in range(2):
        Record(grid, store).sync()
    assert states(store) == {asked.signature: ["FAIL"]}


def test_a_search_is_a_study_for_each_row_with_the_states_of_its_trials(search: Path, store: Store) -> None:
    record = Record(load(search, store), store)
    record.sync()
    studies = play(search, store, 2, 0)
    record.sync()
    Record(studies.sweep, store).sync()
    found = view(store)
    of = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for (row, fold), study in studies.studies.items():
        (trials,) = [of for name, of in found.items() if f"{row} fold {fold}" in name]
        assert [trial.number for trial in trials] == [entry.number for entry in study.entries]
        for trial, entry in zip(trials, study.entries, strict=True):
            assert (trial.state.name, trial.value) == (of[entry.state], entry.value)
            assert trial.intermediate_values == dict(entry.intermediate)
            assert trial.params == entry.params


def test_a_search_under_way_shows_what_runs(search: Path, store: Store) -> None:
    studies = Studies(load(search, store), store)
    asked, other, *_ = studies.ready()
    lease = claim(store.trial(asked.signature))
    (lease.folder / "metrics.jsonl").write_text(line(asked.config, 0))
    Record(studies.sweep, store).sync()
    (trial,) = [trial for trials in view(store).values() for trial in trials]
    assert (trial.state.name, trial.intermediate_values) == ("RUNNING", {0: score(asked.config, 0)})
    lease.release()
    claim(store.trial(other.signature)).release()
    Record(studies.sweep, store).sync()
    assert [t.state.name for trials in view(store).values() for t in trials] == ["FAIL"]


def test_the_cells_of_a_search_join_the_study_as_they_are_chosen(search: Path, store: Store) -> None:
    before = load(search, store)
    Record(before, store).sync()
    after = play(search, store, 2, 0).sweep
    for asked in cells(after):
        finish(store, asked)
    Record(after, store).sync()
    assert states(store) == {name: ["COMPLETE"] for name in after.configs}
    assert len([name for name in view(store) if "fold" not in name]) == 1


def test_a_studys_name_knows_its_space_and_no_order(tmp_path: Path, store: Store) -> None:
    for text in (GRID, GRID.replace("[1e-3, 1e-2]", "[1e-2, 1e-3]"), GRID.replace("6", "7")):
        Record(load(put(tmp_path / "grid.yaml", text), store), store).sync()
    assert len(view(store)) == 2


def test_a_database_that_is_deleted_is_made_again(grid: Sweep, store: Store) -> None:
    record = Record(grid, store)
    finish(store, cells(grid)[0])
    record.sync()
    (store.root / "optuna.db").unlink()
    finish(store, cells(grid)[1])
    record.sync()
    assert states(store) == {asked.signature: ["COMPLETE"] for asked in cells(grid)[:2]}


@pytest.mark.parametrize("broken", [b"no database at all" * 100, None])
def test_a_broken_database_is_put_aside_and_made_again(
    grid: Sweep, store: Store, broken: bytes | None
) -> None:
    finish(store, cells(grid)[0])
    Record(grid, store).sync()
    path = store.root / "optuna.db"
    whole = path.read_bytes()
    path.write_bytes(broken or whole[:4096] + b"\xff" * (len(whole) - 4096))
    Record(grid, store).sync()
    assert states(store) == {cells(grid)[0].signature: ["COMPLETE"]}
    assert (store.root / "optuna.broken.db").exists()


def test_an_empty_file_in_its_place_is_filled(grid: Sweep, store: Store) -> None:
    (store.root / "optuna.db").touch()
    finish(store, cells(grid)[0])
    Record(grid, store).sync()
    assert states(store) == {cells(grid)[0].signature: ["COMPLETE"]}


def test_while_another_program_holds_the_database_a_sync_says_so_and_a_later_one_catches_up(
    grid: Sweep, store: Store
) -> None:
    record = Record(grid, store, wait_s=0.05)
    record.sync()
    finish(store, cells(grid)[0])
    other = sqlite3.connect(store.root / "optuna.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RecordError, match=r"database is locked.*the next run brings") as refused:
        record.sync()
    assert "\n" not in str(refused.value)
    other.execute("ROLLBACK")
    other.close()
    record.sync()
    assert states(store) == {cells(grid)[0].signature: ["COMPLETE"]}


def test_a_full_or_read_only_database_is_no_broken_one(
    grid: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(grid, store)
    record.sync()
    finish(store, cells(grid)[0])
    real = optuna.Study.add_trial
    for problem in ("database or disk is full", "attempt to write a readonly database"):

        def refuse(*_: Any, problem: str = problem) -> None:
            raise optuna.exceptions.StorageInternalError from sqlite3.OperationalError(problem)

        monkeypatch.setattr(optuna.Study, "add_trial", refuse)
        with pytest.raises(RecordError, match=problem):
            record.sync()
    monkeypatch.setattr(optuna.Study, "add_trial", real)
    assert not (store.root / "optuna.broken.db").exists()
    record.sync()
    assert states(store) == {cells(grid)[0].signature: ["COMPLETE"]}


def _sync(file: str, root: str) -> None:
    store = Store(Path(root))
    for _ in range(3):
        Record(load(Path(file), store), store).sync()


def test_launches_that_sync_at_once_show_each_trial_once(tmp_path: Path, grid: Sweep, store: Store) -> None:
    for asked in cells(grid):
        finish(store, asked)
    context = multiprocessing.get_context("spawn")
    all_ = [context.Process(target=_sync, args=(str(tmp_path / "grid.yaml"), str(store.root))) for _ in "abc"]
    for process in all_:
        process.start()
    for process in all_:
        process.join()
    assert [process.exitcode for process in all_] == [0, 0, 0]
    assert states(store) == {name: ["COMPLETE"] for name in grid.configs}


def test_a_sync_that_died_between_two_writes_is_finished_by_the_next(
    grid: Sweep, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = cells(grid)[0]
    lease = claim(store.trial(asked.signature))
    Record(grid, store).sync()
    finish(store, asked, lease=lease)
    dying = Record(grid, store)
    dying._open()
    with monkeypatch.context() as patch:
        patch.setattr(dying._storage, "set_trial_state_values", lambda *_: 1 / 0)
        with pytest.raises(RecordError):
            dying.sync()
    Record(grid, store).sync()
    assert states(store) == {asked.signature: ["COMPLETE"]}


def test_in_the_background_a_problem_is_said_at_the_end_and_training_did_not_wait(
    grid: Sweep, store: Store
) -> None:
    (store.root / "optuna.db").mkdir()
    background = BackgroundRecord(Record(grid, store, wait_s=0.05))
    background.nudge()
    problem = background.close(timeout_s=30)
    assert problem is not None and "Nothing is lost" in problem
    (store.root / "optuna.db").rmdir()
    finish(store, cells(grid)[0])
    assert BackgroundRecord(Record(grid, store)).close(timeout_s=30) is None
    assert states(store) == {cells(grid)[0].signature: ["COMPLETE"]}


def test_importances_are_by_study_and_averaged_over_folds(tmp_path: Path, store: Store) -> None:
    spar = "data: {name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}"
    text = SEARCHED.replace("set: {", f"set: {{{spar}, ").replace("seeds: 2", "folds: 2")
    text = text.replace("trials: 8", "trials: 12").replace("pruner:", "seed: 2 #").replace("1e-1", "1e-2")
    file = put(tmp_path / "which.yaml", text)
    path = store.sweep("which") / "importances.json"
    Record(load(file, store), store).sync()
    assert not path.exists()
    sweep = play(file, store, 2, 0).sweep
    Record(sweep, store).sync()
    found, bytes_ = read_json(path), path.read_bytes()
    assert [(one["row"], one["fold"]) for one in found["studies"]] == [
        (row, fold) for row in ("text", "plain") for fold in (0, 1)
    ]
    for row in ("text", "plain"):
        by_fold = [one["importances"] for one in found["studies"] if one["row"] == row]
        for name, mean in found["rows"][row].items():
            assert mean == pytest.approx(sum(one[name] for one in by_fold) / 2)
        assert sum(found["rows"][row].values()) == pytest.approx(1)
        assert max(found["rows"][row], key=lambda name, of=found["rows"][row]: of[name]) == "train.lr"
    path.unlink()
    Record(sweep, store).sync()
    assert path.read_bytes() == bytes_


def test_too_few_complete_trials_have_no_importances(search: Path, store: Store) -> None:
    put(search, SEARCHED.replace("trials: 8", "trials: 4"))
    Record(play(search, store, 2, 0).sweep, store).sync()
    found = json.loads((store.sweep("which") / "importances.json").read_text())
    assert [one["importances"] for one in found["studies"]] == [None, None] and found["rows"] == {}
