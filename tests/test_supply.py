"""What a launch has to run, as studies ask and choose: nothing is left out, whoever ends them."""

import errno
from pathlib import Path

import pytest
from search_fixture import SEARCHED, finish, put

from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.studies import Studies
from experiments.supply import Supply
from experiments.sweep import load
from experiments.todo import narrowed, unfinished


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path / "hunt.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def supplied(file: Path, store: Store, told: list[Sweep]) -> Supply:
    sweep = load(file, store)
    studies = Studies(sweep, store)
    return Supply(studies.sweep, store, unfinished(studies.sweep, store), studies, told.append)


def elsewhere(file: Path, store: Store) -> None:
    """Another launch runs the searches to their end."""
    studies = Studies(load(file, store), store)
    while studies.open:
        for asked in studies.ready():
            finish(store, asked)
    studies.ready()


def finals(sweep: Sweep) -> set[str]:
    return {cell.signature for cell in sweep.cells} - sweep.waiting


def test_cells_come_when_their_study_has_chosen_and_a_search_is_told_of_once_an_end(
    file: Path, store: Store
) -> None:
    told, given = list[Sweep](), list[str]()
    supply = supplied(file, store, told)
    ended = 0
    while supply.open:
        news = supply.news()
        given += [trial.signature for trial in news]
        for trial in news:
            if trial.config.evaluate == "validation":
                result = finish(store, trial)
                supply.ended(trial.signature, result)
                ended += 1
    given += [trial.signature for trial in supply.news()]
    assert len(given) == len(set(given)) and ended > 5
    assert finals(supply.sweep) <= set(given) and not supply.sweep.waiting
    assert 1 <= len(told) <= 2  # two studies, each chose once


@pytest.mark.parametrize("when", ["before the launch", "while it waits"])
def test_cells_of_a_study_that_another_launch_ended_are_run(file: Path, store: Store, when: str) -> None:
    if when == "before the launch":
        planned = load(file, store)
        elsewhere(file, store)
        studies = Studies(planned, store)
        supply = Supply(studies.sweep, store, unfinished(studies.sweep, store), studies, lambda _: None)
    else:
        supply = supplied(file, store, [])
        supply.news()
        elsewhere(file, store)
        assert supply.open  # until the cells that are chosen are told of
    given = {trial.signature for trial in supply.news()} | set(supply.given)
    assert finals(supply.sweep) <= given and not supply.sweep.waiting and not supply.open


def test_a_full_disk_when_a_study_has_chosen_loses_no_cell(file: Path, store: Store) -> None:
    failures = [OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full")]

    def settled(sweep: Sweep) -> None:
        if failures:
            raise failures.pop()

    sweep = load(file, store)
    studies = Studies(sweep, store)
    supply = Supply(studies.sweep, store, unfinished(studies.sweep, store), studies, settled)
    elsewhere(file, store)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            supply.news()
        assert supply.open
    assert finals(studies.sweep) <= {trial.signature for trial in supply.news()}


def test_a_study_without_a_choice_fails_its_cells_once_each(file: Path, store: Store) -> None:
    wild = SEARCHED.replace("low: 1e-4, high: 1e-1", "low: 5e-2, high: 1e-1")
    put(file, wild)
    supply = supplied(file, store, [])
    elsewhere(file, store)
    supply.news()
    failed = supply.failures()
    assert {trial.row for trial, _ in failed} == {"plain", "text"} and len(failed) == 4
    assert supply.failures() == failed
    for trial, _ in failed:
        supply.told(trial)
    assert supply.failures() == []


def test_only_some_rows_bring_their_searches_alone(file: Path, store: Store) -> None:
    sweep = narrowed(load(file, store), ("text",))
    supply = Supply(sweep, store, unfinished(sweep, store), Studies(sweep, store), lambda _: None)
    assert {trial.row for trial in supply.news()} == {"text"}
    with pytest.raises(ValueError, match="did you mean 'text'"):
        narrowed(load(file, store), ("txt",))
