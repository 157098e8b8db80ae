"""Optuna's study: a record of the ledger that any stop leaves usable."""

from conftest import Finished, states
from optuna.trial import TrialState

from experiments.ledger import Store
from experiments.search import Study
from experiments.sweep import load


def test_optuna_holds_one_complete_trial_for_each_signature(finished: Finished) -> None:
    sweep = load(finished.file, finished.store)
    assert states(finished.store) == {signature: ["COMPLETE"] for signature in sweep.configs}
    rows = {cell.signature: cell.row for cell in sweep.cells}
    for trial in Study(sweep, finished.store).study.trials:
        signature = trial.user_attrs["signature"]
        result = finished.store.result(signature)
        assert result is not None and trial.value == result["metrics"]["val/macro_f1"]
        assert trial.params["row"] == rows[signature]


def test_a_fresh_study_takes_finished_trials_from_the_ledger(finished: Finished, store: Store) -> None:
    (store.root / "trials").symlink_to(finished.store.root / "trials")
    sweep = load(finished.file, store)
    for _ in range(2):
        Study(sweep, store)
        assert states(store) == {signature: ["COMPLETE"] for signature in sweep.configs}


def test_what_a_killed_launch_left_in_optuna_is_closed_and_the_next_ask_works(
    finished: Finished, store: Store
) -> None:
    sweep = load(finished.file, store)
    first, second, *_ = sweep.configs
    killed = Study(sweep, store)
    killed.ask(first)
    killed.study.enqueue_trial(killed.params[second], user_attrs={"signature": second})
    study = Study(sweep, store)
    assert [trial.state for trial in study.study.trials] == [TrialState.FAIL, TrialState.FAIL]
    assert study.ask(first).user_attrs["signature"] == first


def test_an_edited_sweep_opens_a_study_of_its_own(finished: Finished, store: Store) -> None:
    names = set()
    for epochs in (2, 3):
        file = store.root / "tiny.yaml"
        file.write_text(finished.file.read_text().replace("epochs: 2", f"epochs: {epochs}"))
        names.add(Study(load(file, store), store).name)
    assert len(names) == 2
