"""A study is a pure function of the ledger: no order of ends, no kill and no lost file changes it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from search_fixture import (
    EPOCHS,
    SEARCHED,
    diverges,
    finish,
    forget,
    line,
    play,
    put,
    records,
    score,
    step,
)  # fmt: skip
from standing_fixture import end
from typer.testing import CliRunner

from experiments import cli_run
from experiments.cli import app
from experiments.lease import claim
from experiments.ledger import Store, read_json, write_json
from experiments.plan import Sweep
from experiments.studies import Asked, Studies
from experiments.sweep import load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path / "which.yaml")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Sweep]:
    """The records and the sweep after one worker has run all, one after the other."""
    folder = tmp_path_factory.mktemp("undisturbed")
    store = Store(folder / "runs")
    studies = play(put(folder / "which.yaml"), store, workers=1, seed=0)
    return records(store), studies.sweep


def test_plan_and_status_count_search_trials(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    before = CliRunner().invoke(app, ["plan", str(file), "--store", str(store.root)])
    assert before.output.endswith("search trials: 6 asked, 10 not asked yet\n")
    running = claim(store.trial(Studies(load(file, store), store).ready()[0].signature))
    during = CliRunner().invoke(app, ["status", str(file), "--store", str(store.root)])
    assert "search trials: 1 running, 5 asked, 10 not asked yet\n" in during.output
    assert "\n1 trial running " in during.output
    running.release()
    play(file, store, workers=1, seed=0)
    told = Counter(trial["state"] for text in records(store).values() for trial in json.loads(text)["trials"])
    assert told.total() == 16 and told["pruned"] and told["failed"]
    after = CliRunner().invoke(app, ["status", str(file), "--store", str(store.root)])
    counts = ", ".join(f"{told[state]} {state}" for state in ("complete", "pruned", "failed"))
    assert f"search trials: {counts}, 0 not asked yet\n" in after.output


def test_a_run_hears_of_studies_that_another_launch_ended_since_it_planned(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, real = list[tuple[Sweep, list[str]]](), cli_run.load

    def slow(*args: Any) -> Any:
        planned = real(*args)
        play(file, planned[1], workers=1, seed=0)
        return planned

    def read_data(sweep: Sweep, todo: list[str], *_: Any) -> None:
        wanted.append((sweep, todo))
        raise ValueError("far enough")

    monkeypatch.setattr(cli_run, "load", slow)
    monkeypatch.setattr("experiments.todo.read_data", read_data)
    told = CliRunner().invoke(app, ["run", str(file), "--store", str(tmp_path / "runs")])
    assert told.output.endswith("far enough\n")
    ((sweep, todo),) = wanted
    assert not sweep.waiting and set(todo) == set(sweep.configs)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_any_number_of_workers_in_any_order_of_ends_leaves_the_same_records(
    file: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], Sweep], workers: int, seed: int
) -> None:
    store = Store(tmp_path / "runs")
    studies = play(file, store, workers, seed, lag=0.5)
    assert (records(store), studies.sweep.cells) == (undisturbed[0], undisturbed[1].cells)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_launch_that_dies_again_and_again_leaves_the_same_records(
    file: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], Sweep], seed: int
) -> None:
    store = Store(tmp_path / "runs")
    studies = play(file, store, 3, seed, kill=0.15, lag=0.3)
    assert (records(store), studies.sweep.cells) == (undisturbed[0], undisturbed[1].cells)


def test_the_play_has_trials_that_finish_trials_that_are_pruned_and_trials_that_fail(
    undisturbed: tuple[dict[str, bytes], Sweep],
) -> None:
    states = {trial["state"] for record in undisturbed[0].values() for trial in json.loads(record)["trials"]}
    assert states == {"complete", "pruned", "failed"}


@pytest.mark.parametrize("broken", [None, "", "{", "[]", '{"trials": 3, "stem": ""}'])
def test_records_that_are_lost_or_broken_are_rebuilt_from_the_ledger_without_a_trial(
    file: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], Sweep], broken: str | None
) -> None:
    store = Store(tmp_path / "runs")
    play(file, store, 2, 1)
    if broken is None:
        forget(store)
    else:
        for name in records(store):
            (store.sweep("which") / "search" / name).write_text(broken)
    assert load(file, store).cells == undisturbed[1].cells, "planning reads the ledger too"
    studies = Studies(load(file, store), store)
    assert (studies.ready(), studies.open) == ([], False)
    assert records(store) == undisturbed[0]


def test_every_row_and_fold_gets_the_same_number_of_trials(
    undisturbed: tuple[dict[str, bytes], Sweep],
) -> None:
    records, sweep = undisturbed
    searched = {(search.row, search.fold): f"{search.key}.json" for search in sweep.searches}
    assert {row for row, _ in searched} == {"plain", "text"} and len(records) == len(searched)
    assert [len(json.loads(records[name])["trials"]) for name in searched.values()] == [8, 8]


def test_two_launches_are_asked_for_the_same_trials(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    one, other = (Studies(load(file, store), store) for _ in range(2))
    while one.open:
        asked = one.ready()
        assert asked == other.ready()
        finish(store, asked[-1])
        one.ended(asked[-1].signature, None)
    assert not other.ready() and not other.open
    assert one.sweep.cells == other.sweep.cells


def test_no_more_trials_of_a_study_are_asked_than_run_at_a_time(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    first = studies.ready()
    assert [(asked.label, asked.number) for asked in first] == [
        (f"{row} search {number + 1}/8", number) for number in range(3) for row in ("plain", "text")
    ], "equal shares, the reference first"
    plain = [asked for asked in first if asked.label.startswith("plain")]
    for asked in plain[1:]:
        finish(store, asked)
    assert len([asked for asked in studies.ready() if asked.label.startswith("plain")]) == 1, (
        "what the fourth may know hangs on the first"
    )
    finish(store, plain[0])
    assert [a.number for a in studies.ready() if a.label.startswith("plain")] == [3, 4, 5]


def test_a_search_trial_runs_at_the_first_seed_and_never_on_the_test_side(file: Path, tmp_path: Path) -> None:
    put(file, SEARCHED.replace("seeds: 2", "seeds: [5, 1]"))
    studies = Studies(load(file, Store(tmp_path / "runs")), Store(tmp_path / "runs"))
    for asked in studies.ready():
        assert (asked.config.seed, asked.config.evaluate) == (5, "validation")
    sweep = studies.sweep
    assert {config.evaluate for config in sweep.configs.values()} == {"test"}


def test_no_test_score_reaches_a_study(file: Path, tmp_path: Path) -> None:
    found = []
    for test in (0.1, 0.9):
        store = Store(tmp_path / f"runs{test}")
        studies = Studies(load(file, store), store)
        while studies.open:
            for at, asked in enumerate(studies.ready()):
                finish(store, asked, test * (1 + at))
        studies.ready()
        found.append((records(store), studies.sweep.cells))
    assert found[0] == found[1]


def test_the_best_on_validation_is_chosen_and_runs_on_every_seed(
    undisturbed: tuple[dict[str, bytes], Sweep],
) -> None:
    records, sweep = undisturbed
    assert not sweep.waiting
    for search in sweep.searches:
        record = json.loads(records[f"{search.key}.json"])
        best = max(
            (trial for trial in record["trials"] if trial["state"] == "complete"),
            key=lambda trial: trial["value"],
        )
        cells = [cell for cell in sweep.cells if cell.row == search.row]
        configs = [sweep.configs[cell.signature] for cell in cells]
        assert [config.seed for config in configs] == [0, 1]
        for config in configs:
            assert config.train.lr == best["params"]["train.lr"]
            assert config.model.codes == best["params"]["model.codes"]
        (outcome,) = [found for found in sweep.plan()["search"]["chosen"] if found["row"] == search.row]
        assert (outcome["values"], outcome["val/macro_f1"]) == (best["params"], best["value"])
    assert not {"train.lr", "model.codes", "model.heads"} & set(sweep.plan()["differs"])


def test_ties_go_to_the_lower_reconstruction_error_then_to_the_earlier_trial(
    file: Path, tmp_path: Path
) -> None:
    put(file, SEARCHED.replace("median", "none").replace(", n_startup_trials: 2, n_warmup_steps: 1", ""))
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    while studies.open:
        for asked in studies.ready():
            metrics = {"val/macro_f1": 0.5, "val/series_mse": 0.2 if asked.number in (4, 6) else 0.3}
            end(store, asked.signature, 0.5, metrics=metrics)
    assert {found["number"] for found in studies.sweep.chosen} == {4}


def test_until_a_study_has_chosen_its_cells_have_names_of_their_own(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    sweep = load(file, store)
    waiting = [cell for cell in sweep.cells if cell.signature in sweep.waiting]
    assert {cell.row for cell in waiting} == {"plain", "text"}
    assert len({cell.signature for cell in waiting}) == 4
    after = play(file, store, 2, 0).sweep
    assert not {cell.signature for cell in waiting} & {cell.signature for cell in after.cells}
    statistics = [cell for cell in sweep.cells if cell.row == "statistics"]
    assert [cell for cell in after.cells if cell.row == "statistics"] == statistics


def test_a_larger_budget_goes_on_with_the_trials_of_the_smaller(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    play(file, store, 2, 0)
    done = set(store.root.glob("trials/*"))
    put(file, SEARCHED.replace("trials: 8", "trials: 10"))
    studies = Studies(load(file, store), store)
    assert {asked.number for asked in studies.ready()} == {8, 9}
    assert set(store.root.glob("trials/*")) == done


def test_the_order_of_the_file_changes_no_study(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    one = load(file, store)
    space = SEARCHED.split("space:\n")[1].split("variants:")[0]
    lines = "".join(reversed(space.splitlines(keepends=True)))
    put(
        file, SEARCHED.replace(space, lines).replace("[16, 32, 64]", "[64, 16, 32]").replace("1e-4", "0.0001")
    )
    assert [search.key for search in load(file, store).searches] == [search.key for search in one.searches]
    put(file, SEARCHED.replace("1e-4", "1e-5"))
    keys = {search.key for search in load(file, store).searches}
    assert not keys & {search.key for search in one.searches}


def test_a_trial_is_pruned_at_the_first_epoch_the_pruner_names_even_if_it_ran_on(
    file: Path, tmp_path: Path
) -> None:
    stopped, ran_on = Store(tmp_path / "stopped"), Store(tmp_path / "ran_on")
    play(file, stopped, 1, 0)
    play(file, ran_on, 1, 0, lag=1.0)
    assert records(stopped) == records(ran_on)
    pruned = [t for r in records(stopped).values() for t in json.loads(r)["trials"] if t["state"] == "pruned"]
    assert pruned and all(len(trial["intermediate"]) < EPOCHS for trial in pruned)
    assert all(trial["value"] == trial["intermediate"][-1][1] for trial in pruned)
    results = [[store.result(trial["signature"]) for trial in pruned] for store in (stopped, ran_on)]
    assert not any(results[0]) and any(results[1])


def test_a_torn_line_is_read_when_it_is_whole(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    asked = studies.ready()[0]
    lease = claim(store.trial(asked.signature))
    whole = line(asked.config, 0)
    (lease.folder / "metrics.jsonl").write_text(whole + whole[:20])
    studies.look(asked.signature)
    (lease.folder / "metrics.jsonl").write_text(whole + line(asked.config, 1))
    studies.look(asked.signature)
    (entry,) = [e for s in studies.studies.values() for e in s.running if e.signature == asked.signature]
    assert entry.intermediate == [(epoch, score(asked.config, epoch)) for epoch in (0, 1)]
    lease.release()


def all_fail(file: Path, store: Store, failure: str) -> Studies:
    studies = Studies(load(file, store), store)
    while studies.open:
        for asked in studies.ready():
            studies.ended(asked.signature, fails(store, asked, failure))
    return studies


def fails(store: Store, asked: Asked, failure: str) -> dict[str, Any]:
    return end(store, asked.signature, None, failure=failure, error=f"{failure}: no luck")


def retry(file: Path, store: Store, most: int = 100) -> Studies:
    """Try failed trials again, so many of them."""
    studies = Studies(load(file, store), store, retry_failed=True)
    for _ in range(most):
        for asked in studies.ready()[:1]:
            studies.ended(asked.signature, finish(store, asked))
    return studies


def test_a_study_without_a_finished_trial_says_so_of_its_cells(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    studies = all_fail(file, store, "crashed")
    failures = studies.failures()
    assert set(failures) == set(load(file, store).waiting) and len(failures) == 4
    assert set(failures.values()) == {"none of 8 trials finished: 8 failed; crashed: no luck"}


def test_failed_trials_are_tried_again_where_a_study_has_no_choice(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    all_fail(file, store, "crashed")
    assert not Studies(load(file, store), store).open
    again = retry(file, store)
    assert not again.failures() and not again.sweep.waiting
    assert load(file, store).cells == again.sweep.cells


def test_trials_are_tried_again_by_many_short_launches_as_by_one(file: Path, tmp_path: Path) -> None:
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    for store in (whole, cut):
        all_fail(file, store, "crashed")
    retry(file, whole)
    while retry(file, cut, most=1).open:
        pass
    assert records(whole) == records(cut) != {}


def test_a_failed_trial_of_a_study_that_chose_is_told_of_and_tried_again(
    file: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], Sweep]
) -> None:
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    first = studies.ready()[0]
    studies.ended(first.signature, fails(store, first, "crashed"))
    chose = play(file, store, workers=1, seed=0)
    assert not chose.failures() and not chose.sweep.waiting
    assert (first.label, "crashed: no luck") in [(label, told["error"]) for label, told, _ in chose.failed()]
    told = CliRunner().invoke(app, ["status", str(file), "--store", str(store.root)]).output
    assert f"failed: {first.label}: crashed: no luck\n" in told
    retry(file, store)
    assert records(store) == undisturbed[0]


def test_trials_that_diverged_are_not_tried_again(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    all_fail(file, store, "diverged")
    assert not Studies(load(file, store), store, retry_failed=True).open


def test_a_result_that_changed_reopens_the_study_from_there_on(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    play(file, store, 2, 0)
    name, record = sorted(records(store).items())[0]
    trials = json.loads(record)["trials"]
    at = next(trial for trial in trials[2:] if trial["state"] == "complete")
    path = store.trial(at["signature"]) / "result.json"
    changed = read_json(path)
    changed["metrics"]["val/macro_f1"] += 0.01
    write_json(path, changed)
    studies = Studies(load(file, store), store)
    studies.ready()
    after = json.loads(records(store)[name])["trials"]
    assert after[: at["number"]] == trials[: at["number"]]
    assert after[at["number"]]["value"] == changed["metrics"]["val/macro_f1"]


def test_settings_that_do_not_go_together_fail_within_the_budget(file: Path, tmp_path: Path) -> None:
    space = "model.quantizer: [standard, fsq]\n    model.codes: [32, 40, 48, 56]\n    train.lr: [1e-3, 1e-2]"
    head, tail = SEARCHED.split("    train.lr")[0], SEARCHED.split("step: 2}\n")[1]
    put(file, f"{head}    {space}\n{tail}".replace("seeds: 2", "seeds: 1"))
    store = Store(tmp_path / "runs")
    studies = play(file, store, 2, 0)
    trials = [trial for record in records(store).values() for trial in json.loads(record)["trials"]]
    refused = [trial for trial in trials if trial["signature"] is None]
    assert refused and all(trial["state"] == "failed" for trial in refused)
    assert all("fsq can't have" in trial["error"] for trial in refused)
    assert studies.counts()["failed"] >= len(refused) and len(trials) == 16


def test_looking_at_what_did_not_change_reads_nothing_twice(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    asked = studies.ready()[0]
    lease = claim(store.trial(asked.signature))
    step(store, asked)
    assert not studies.look(asked.signature)
    monkeypatch.setattr("experiments.study.epochs", lambda path: pytest.fail("read again"))
    assert not studies.look(asked.signature)
    lease.release()


def test_a_record_that_can_not_be_written_stops_nothing(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.sweep("which").mkdir(parents=True)
    (store.sweep("which") / "search").write_text("in the way")
    studies = Studies(load(file, store), store)
    asked = studies.ready()
    assert len(asked) == 6
    (store.sweep("which") / "search").unlink()
    studies.ready()
    assert len(records(store)) == 2


def test_the_rate_that_makes_a_trial_diverge_is_in_the_space(file: Path, tmp_path: Path) -> None:
    (search, *_) = load(file, Store(tmp_path / "runs")).searches
    assert diverges(search.trial({"train.lr": 0.1, "model.codes": 16, "model.heads": 2}))


def test_equal_rows_of_two_variants_share_their_study_and_its_trials(file: Path, tmp_path: Path) -> None:
    put(file, SEARCHED.replace("  statistics:", "  again: {losses: {ce_series: 0.1}}\n  statistics:"))
    store = Store(tmp_path / "runs")
    sweep = play(file, store, 2, 0).sweep
    assert (len(records(store)), len(sweep.searches)) == (2, 3)
    names = {row: [cell.signature for cell in sweep.cells if cell.row == row] for row in ("plain", "again")}
    assert names["plain"] == names["again"]


def test_a_row_without_a_seed_is_searched_and_runs_once(file: Path, tmp_path: Path) -> None:
    """Channel statistics, over the length that series are brought to."""
    put(
        file,
        """# How long?
seeds: 2
search: {trials: 3, space: {data.length: [50, 60, 70]}}
variants: {statistics: {baseline: statistics}}
""",
    )
    store = Store(tmp_path / "runs")
    studies = play(file, store, 1, 0)
    (cell,) = studies.sweep.cells
    (best,) = [study.chosen for study in studies.studies.values()]
    assert best is not None and cell.seed is None
    assert studies.sweep.configs[cell.signature].data.length == best.params["data.length"]


def test_what_was_accepted_counts_and_not_what_an_attempt_before_it_said(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    studies = Studies(load(file, store), store)
    asked = next(one for one in studies.ready() if not diverges(one.config))
    lease = claim(store.trial(asked.signature))
    (lease.folder / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "val/macro_f1": 0.01}) + "\n")
    assert not studies.look(asked.signature)
    finish(store, asked, lease=lease)
    studies.ended(asked.signature, None)
    trials = [trial for record in records(store).values() for trial in json.loads(record)["trials"]]
    (found,) = [trial for trial in trials if trial["signature"] == asked.signature]
    assert found["intermediate"][0] == [0, score(asked.config, 0)]
