"""What finished trials are asked afterwards: of the models that they kept, and of nothing else."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHAPELEX, Finished, environment
from test_trial import forbid
from typer.testing import CliRunner

from analysis import load as ledger
from experiments import captions, code, data, encoder, evaluation, local_executor, robustness
from experiments.cli import app
from experiments.config import RunConfig
from experiments.evaluations import Evaluations
from experiments.execute import InlineExecutor
from experiments.ledger import Store
from experiments.sweep import load

CODE = code.Code("code", None, None, b"")


class Ran:
    """The sweep of `finished` with trials of its own, to be evaluated here and now."""

    def __init__(self, finished: Finished, store: Store) -> None:
        self.store, self.file = store, finished.file
        shutil.copytree(finished.store.root / "trials", store.root / "trials")
        self.sweep = load(self.file, store)
        self.sweep.save(store, self.file)

    def ask(self, force: bool = False) -> tuple[list[str], dict[str, str]]:
        """The labels that were told of, and the problems."""
        evaluations, told = Evaluations(self.sweep, self.sweep, self.store, force), list[str]()
        evaluations.run(InlineExecutor(1, ["cpu"]), CODE, lambda label, why: told.append(label))
        return told, evaluations.problems

    def found(self) -> dict[str, dict[str, Any]]:
        files = sorted(self.store.root.glob("trials/*/evaluation.json"))
        return {file.parent.name: json.loads(file.read_text()) for file in files}

    def of(self, row: str) -> list[str]:
        return [cell.signature for cell in self.sweep.cells if cell.row == row]


@pytest.fixture
def ran(finished: Finished, store: Store) -> Ran:
    return Ran(finished, store)


@pytest.fixture(scope="module")
def asked(finished: Finished, new_store: Callable[[Path], Store], tmp_path_factory: Any) -> Ran:
    """Once evaluated; to be looked at only."""
    ran = Ran(finished, new_store(tmp_path_factory.mktemp("asked") / "runs"))
    told, problems = ran.ask()
    assert not problems and len(told) == 6 and told[0].startswith("training fcn ")
    return ran


def lay(asked: Ran, ran: Ran) -> None:
    """The judge and the evaluations of `asked` in `ran`."""
    shutil.copytree(asked.store.root / "trials", ran.store.root / "trials", dirs_exist_ok=True)


def test_every_kind_of_trial_gets_its_curves_and_a_core_what_is_read_of_its_series(asked: Ran) -> None:
    found = asked.found()
    assert set(found) == set(asked.sweep.configs)
    for name, one in found.items():
        robust = {key for key in one["metrics"] if key.startswith("robust/")}
        kinds = robustness.KINDS.items()
        assert robust == {f"robust/{k}/{s:g}/macro_f1" for k, kind in kinds for s in kind.strengths}
        core = asked.sweep.configs[name].baseline == "none"
        kept = [key for key in one["metrics"] if key.startswith("recon/")]
        assert len(kept) == (5 if core else 0) and ("meaning/named_drop" in one["metrics"]) == core
        assert (one["judge"] is not None) == core
    raw = {one["metrics"]["recon/fcn_raw_macro_f1"] for one in found.values() if one["judge"]}
    assert len(raw) == 1  # one judge for all rows and seeds


def test_undisturbed_windows_give_the_trials_own_score(
    asked: Ran, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(asked, ran)
    still = {name: kind._replace(strengths=(0.0,)) for name, kind in robustness.KINDS.items()}
    monkeypatch.setattr(robustness, "KINDS", still)
    ran.ask(force=True)
    for name, found in ran.found().items():
        result = ran.store.result(name)
        assert result is not None
        for kind in still:
            assert found["metrics"][f"robust/{kind}/0/macro_f1"] == result["metrics"]["test/macro_f1"]


def test_a_second_time_there_is_nothing_to_do(asked: Ran, ran: Ran) -> None:
    lay(asked, ran)
    assert ran.ask() == ([], {})


@pytest.mark.parametrize("change", ["finished_at", "attempt"])
def test_a_retried_trials_evaluation_is_stale(asked: Ran, ran: Ran, change: str) -> None:
    lay(asked, ran)
    (name,) = ran.of("statistics")
    path = ran.store.trial(name) / "result.json"
    newer = {"finished_at": "2027-01-01T00:00:00Z", "attempt": 7}[change]
    path.write_text(json.dumps(json.loads(path.read_text()) | {change: newer}))
    metric = "robust/noise/0.4/macro_f1"
    frame = ledger.frame(ran.store.root, ran.sweep.name).set_index("row")
    assert np.isnan(frame.loc["statistics", metric]) and frame.loc["plain", metric].notna().all()
    assert ran.ask() == (["statistics"], {})
    frame = ledger.frame(ran.store.root, ran.sweep.name).set_index("row")
    assert frame.loc["statistics", metric] == ran.found()[name]["metrics"][metric]


def test_what_another_judge_read_is_stale_but_for_who_is_read_by_none(asked: Ran, ran: Ran) -> None:
    lay(asked, ran)
    judge = next(one["judge"]["signature"] for one in asked.found().values() if one["judge"])
    shutil.rmtree(ran.store.trial(judge))
    told, problems = ran.ask()
    assert [label.split()[0] for label in told] == ["training", *["plain", "text"] * 2]
    assert not problems
    again = {name: one["metrics"] for name, one in ran.found().items()}
    assert again == {name: one["metrics"] for name, one in asked.found().items()}


def test_by_force_the_same_comes_out_and_no_text_is_read(
    asked: Ran, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(asked, ran)
    for where, name in ((encoder.TextCache, "get"), (encoder.TextCache, "pack"), (captions, "class_texts")):
        forbid(monkeypatch, where, name)
    told, problems = ran.ask(force=True)
    assert len(told) == 5 and not problems and ran.found() == asked.found()


def test_a_broken_model_is_named_the_others_are_evaluated_and_the_status_is_1(
    asked: Ran, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(asked, ran)
    broken, gone = ran.of("plain")
    for path in ran.store.root.glob("trials/*/evaluation.json"):
        path.unlink()
    (ran.store.trial(broken) / "model/model.safetensors").write_bytes(b"torn")
    (ran.store.trial(gone) / "model/probe.npz").unlink()
    monkeypatch.setattr(local_executor, "LocalExecutor", InlineExecutor)
    command = ["evaluate", str(ran.file), "--store", str(ran.store.root), "--workers", "1"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1/5  plain seed 0: failed: ValueError: ")
    assert "model.safetensors is broken" in lines[0]
    assert lines[1] == "2/5  text seed 0"
    assert sum("probe.npz is missing" in line for line in lines) == 1
    assert lines[5] == "tiny: 3 of 5 done trials evaluated."
    assert set(ran.found()) == set(ran.sweep.configs) - {broken, gone}
    only = CliRunner().invoke(app, [*command, "--only", "statistics"])
    assert only.exit_code == 0 and only.stdout == "tiny: nothing to do, 1 of 1 done trials evaluated.\n"


def test_killed_between_two_trials_the_same_command_goes_on(asked: Ran, ran: Ran) -> None:
    lay(asked, ran)
    for path in ran.store.root.glob("trials/*/evaluation.json"):
        path.unlink()
    command = [SHAPELEX, "evaluate", str(ran.file), "--store", str(ran.store.root), "--workers", "1"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not ran.found() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = ran.found()
    assert 1 <= len(before) < 5
    told, problems = ran.ask()
    assert len(told) == 5 - len(before) and not problems
    ours, theirs = ran.found(), asked.found()
    assert {n: f["metrics"] for n, f in ours.items()} == {n: f["metrics"] for n, f in theirs.items()}
    assert all(ours[name] == found for name, found in before.items())


SWEEP = """# ?
set: {{data: {{name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}}, train.epochs: {epochs}}}
seeds: [4, 5]
folds: 2
variants:
  jittered: {{data.augment.jitter: 0.1}}
  core: {{train.epochs: 4}}
  statistics: {{baseline: statistics}}
{more}
"""


FCN = """\
  changed: {baseline: fcn, data.augment.scaling: 0.1}
  fcn: {baseline: fcn, train.epochs: 9}
  other: {baseline: fcn}"""


@pytest.mark.parametrize(("epochs", "more", "judged"), [(3, "", 3), (99, "", 40), (99, FCN, 9)])
def test_a_fold_has_one_judge_that_saw_raw_training_windows(
    store: Store, epochs: int, more: str, judged: int
) -> None:
    file = store.root / "judged.yaml"
    file.write_text(SWEEP.format(epochs=epochs, more=more))
    sweep = load(file, store)
    judges = evaluation.judges(sweep)
    for cell in sweep.cells:
        judge, config = judges[cell.signature], sweep.configs[cell.signature]
        assert (judge is None) == (config.baseline != "none")
        if judge is None:
            continue
        like = RunConfig(data=data_of(config), train=judge.config.train, baseline="fcn", seed=4)
        assert judge.config.data == like.data and judge.config.baseline == "fcn" and judge.config.seed == 4
        assert judge.config.train.epochs == judged  # its own row's, or the first core's up to a limit
        own = [c for c in sweep.cells if c.row == "fcn" and c.seed == 4 and c.fold == cell.fold]
        assert [judge.signature] == [c.signature for c in own] if more else judge.signature not in judges
    assert len({judge.signature for judge in judges.values() if judge}) == 2


def data_of(config: RunConfig) -> Any:
    return config.data.model_copy(update={"augment": data.DataConfig().augment})


def test_a_judge_that_is_a_row_is_evaluated_as_soon_as_it_is_trained(ran: Ran) -> None:
    text = ran.file.read_text().replace("variants:", "variants:\n  fcn: {baseline: fcn, train.epochs: 1}")
    ran.file = ran.store.root / "tiny.yaml"
    ran.file.write_text(text)
    ran.sweep = load(ran.file, ran.store)
    told, problems = ran.ask()
    assert told[0] == "training fcn seed 0, which reads rebuilt windows" and told[-1] == "fcn seed 0"
    assert not problems and len(told) == 7
    found = ran.found()
    assert {one["judge"]["signature"] for one in found.values() if one["judge"]} == {ran.of("fcn")[0]}
    assert ran.ask() == ([], {})
