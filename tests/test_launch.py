"""The command line on a real sweep: what a launch leaves behind, and that nothing that dies can change it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from conftest import MICRO, Finished, environment
from typer.testing import CliRunner

from analysis import load as analysis
from experiments import background, lease, progress, track
from experiments.cli import app
from experiments.cli_run import SIGNALS
from experiments.code import Code
from experiments.execute import InlineExecutor, Task
from experiments.launch import Launch
from experiments.ledger import Store
from experiments.limits import Limits
from experiments.local_executor import LocalExecutor
from experiments.plan import Sweep
from experiments.report import Summary
from experiments.supply import Supply
from experiments.sweep import load
from experiments.todo import read_data, unfinished


def test_a_launch_prints_its_trials_its_cost_and_the_table(finished: Finished) -> None:
    lines = finished.output.splitlines()
    assert lines[:2] == ["reading basic_motions", "preparing data and text"]
    assert sum(": validation macro-F1 " in line for line in lines) == 5
    (cost,) = [line for line in lines if "outside training and evaluation" in line]
    assert re.fullmatch(r"5 done, 0 failed in \d+ s; median cost a trial .* \d+\.\d\d s", cost)
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows[0] == "row" and rows[2:5] == ["plain", "text", "statistics"]
    assert any(line.startswith("MLflow: shapelex ui") for line in lines[-2:])


def test_who_asks_for_people_hears_where_none_is_known(tmp_path: Path) -> None:
    file, store, said = tmp_path / "x.yaml", Store(tmp_path / "store"), list[str]()
    file.write_text("set: {model.guidance.attention: one_way}\ngrid: {text.subject_info: [true, false]}\n")
    sweep = load(file, store)
    read_data(sweep, list(sweep.configs), store, said.append)
    line = "basic_motions says nothing of its people, so texts gain the placement alone"
    assert said == ["reading basic_motions", f"text.subject_info: {line}"]
    told = [s for s, config in sweep.configs.items() if not config.text.subject_info]
    read_data(sweep, told, store, said.append)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("plan", "5 cells, 5 trials: 5 done, 0 failed, 0 waiting."),
        ("status", "5 done, 0 failed, 0 waiting of 5 cells"),
        ("run", "tiny: nothing to do, all 5 cells have their result."),
    ],
)
def test_a_finished_sweep_is_known_as_such(finished: Finished, verb: str, expected: str) -> None:
    answer = CliRunner().invoke(app, [verb, str(finished.file), "--store", str(finished.store.root)])
    assert answer.exit_code == 0
    assert any(line.startswith(expected) for line in answer.output.splitlines()), answer.output
    assert "MLflow lacks" not in answer.output


def test_a_finished_sweep_does_nothing_and_imports_nothing_heavy(finished: Finished) -> None:
    code = (
        "import sys; from experiments.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print({'torch', 'mlflow', 'optuna', 'lightning', 'sklearn', 'pandas'} & sys.modules.keys())"
    )
    before = sorted(finished.store.root.rglob("*"))
    command = [sys.executable, "-c", code, "run", "tiny.yaml", "--store", str(finished.store.root)]
    ran = subprocess.run(
        command, cwd=finished.file.parent, env=environment(), text=True, capture_output=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "set()", ran.stdout + ran.stderr
    assert sorted(finished.store.root.rglob("*")) == before


def test_mlflow_shows_the_numbers_of_the_ledger(finished: Finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.store.root}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    runs = client.search_runs([experiment.experiment_id], "tags.`shapelex.kind` = 'trial'")
    shown = {run.data.tags["shapelex.signature"]: run.data.metrics for run in runs}
    frame = analysis.frame(finished.store.root, "tiny").set_index("signature")
    assert len(runs) == len(frame) == 5 and set(shown) == set(frame.index)
    numbers = frame.select_dtypes("float64")
    assert {"test/macro_f1", "cost/total_s", "codes/perplexity"} <= set(numbers.columns)
    for signature, row in numbers.iterrows():
        curves = ("epoch/", "system/")
        final = {k: value for k, value in shown[str(signature)].items() if not k.startswith(curves)}
        assert final == row.dropna().to_dict()


class Log:
    """A launch.Report that keeps what it is told, and calls `during` at each look at progress."""

    def __init__(self, during: Callable[[list[str]], None] = lambda running: None) -> None:
        self.during, self.results = during, dict[str, dict[str, Any]]()

    def note(self, line: str) -> None: ...

    def progress(self, done: float, total: float, running: list[str]) -> None:
        assert 0 <= done <= total
        self.during(running)

    def ended(self, name: str, result: dict[str, Any]) -> None:
        self.results[result["signature"]] = result


def test_how_far_encoding_is_reaches_the_report_while_a_launch_prepares(finished: Finished) -> None:
    store, seen = finished.store, list[list[str]]()
    sweep = load(finished.file, store)

    class Preparing(InlineExecutor):
        """Still at work when it is first asked; its log, which a process of its own would write, by hand."""

        def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
            return super().poll(timeout_s) if seen else []

    launch = launch_of(sweep, store, Preparing(1, ["cpu"]), Log(seen.append), list(sweep.configs))
    launch.add()
    launch.log.write_text("encoded 20 of 876 texts\nencoded 40 of 876 texts\n")
    launch.jobs.prepare(launch.executor, launch.report, launch.log, launch.limits, time.monotonic())
    launch.log.unlink()
    assert seen == [["encoding texts"]]


@pytest.mark.parametrize("limits", [Limits(time_s=0.0), Limits(timeout_s=0.0)])
def test_preparing_that_takes_too_long_or_hangs_is_ended(finished: Finished, limits: Limits) -> None:
    class Hanging(InlineExecutor):
        killed = 0

        def poll(self, timeout_s: float) -> list[tuple[Task, str | None]]:
            return [(task, "killed by SIGKILL") for task, _ in super().poll(timeout_s)] if self.killed else []

        def kill(self, task: Task) -> None:
            self.killed += 1

    executor = Hanging(1, ["cpu"])
    sweep = load(finished.file, finished.store)
    launch = launch_of(sweep, finished.store, executor, Log(), list(sweep.configs))
    launch.add()
    launch.jobs.prepare(executor, launch.report, launch.log, limits, time.monotonic())
    assert executor.killed == 1


def launch_of(sweep: Sweep, store: Store, executor: Any, log: Log, todo: list[str]) -> Launch:
    supply, code = Supply(sweep, store, todo, None, lambda _: None), Code("code", None, None, b"")
    return Launch(supply, executor, log, lambda: None, code, Limits())


class Rescued(NamedTuple):
    """Launches with one worker: the first text trial was killed at each of its three tries, then retried."""

    sweep: Sweep
    store: Store
    victim: str
    killed: Log
    retried: Log
    summary: Summary


@pytest.fixture(scope="module")
def rescued(
    finished: Finished, new_store: Callable[[Path], Store], tmp_path_factory: pytest.TempPathFactory
) -> Rescued:
    store = new_store(tmp_path_factory.mktemp("rescued") / "runs")
    sweep = load(finished.file, store)
    victim = next(cell.signature for cell in sweep.cells if cell.row == "text")

    def kill() -> None:
        while not killed.results.keys() & {victim}:
            holder = lease.running(store.trial(victim))
            if holder is not None and holder.pid != os.getpid():  # which gives the trial up in the end
                with suppress(ProcessLookupError):
                    os.kill(holder.pid, signal.SIGKILL)
            time.sleep(0.01)

    killed, retried = Log(), Log()
    killer = threading.Thread(target=kill)
    killer.start()
    launch_of(sweep, store, LocalExecutor(1, ["cpu"]), killed, unfinished(sweep, store)).run()
    killer.join()
    assert unfinished(sweep, store) == []
    failed = unfinished(sweep, store, retry_failed=True)
    summary = launch_of(sweep, store, LocalExecutor(1, ["cpu"]), retried, failed).run()
    return Rescued(sweep, store, victim, killed, retried, summary)


def test_a_trial_that_is_killed_again_and_again_is_a_failure_that_says_so(rescued: Rescued) -> None:
    result = rescued.killed.results[rescued.victim]
    assert result["failure"] == "crashed"
    assert result["error"] == "crashed 3 times, last: killed by SIGKILL"
    found = {s: r["status"] for s, r in rescued.killed.results.items()}
    assert found == {s: "failed" if s == rescued.victim else "done" for s in rescued.sweep.configs}


def test_retry_failed_runs_the_failed_trial_alone(rescued: Rescued) -> None:
    assert {s: r["status"] for s, r in rescued.retried.results.items()} == {rescued.victim: "done"}
    assert rescued.summary[:2] == (1, 0) and rescued.summary.overhead_s is not None


def test_one_worker_and_two_give_equal_bits(rescued: Rescued, finished: Finished) -> None:
    for signature in rescued.sweep.configs:
        one, two = rescued.store.result(signature), finished.store.result(signature)
        assert one is not None and two is not None
        for name in ("metrics", "best_epoch", "confusion", "per_class_f1", "config", "digests"):
            assert one[name] == two[name], (signature, name)


@pytest.fixture
def shapelex(store: Store) -> Iterator[Callable[..., str]]:
    """The command line in this process, on a sweep of two trials: one works, one diverges."""
    handlers, file = {number: signal.getsignal(number) for number in SIGNALS}, store.root / "two.yaml"
    wild = "{train: {lr: 1.0e+30, warmup_frac: 0}}"
    file.write_text(f"{MICRO}reference: fine\nvariants:\n  wild: {wild}\n  fine: {{baseline: statistics}}\n")

    def run(verb: str, *options: str) -> str:
        answer = CliRunner().invoke(app, [verb, str(file), "--store", str(store.root), *options])
        assert answer.exit_code == 0, answer.output
        return answer.output

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_sweep_goes_on_where_it_stopped_and_a_failure_waits_to_be_retried(
    shapelex: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = SimpleNamespace(nudge=lambda: None, close=lambda timeout_s: None)
    monkeypatch.setattr(background, "BackgroundMirror", lambda _: mirror)
    monkeypatch.setattr(track, "pending", lambda *_: [])
    failure = "failed: wild seed 0: FloatingPointError: diverged: the model's output is not finite"
    first = shapelex("run", "--executor", "inline", "--max-trials", "1")
    assert "1 done, 0 failed in " in first and "stopped: --max-trials 1. The same command goes on" in first
    assert "1/1  fine: validation" in first
    assert "1 done, 0 failed, 1 waiting of 2 cells" in shapelex("status")
    second = shapelex("run", "--executor", "inline")
    assert "0 done, 1 failed in " in second and failure in second
    third = shapelex("run", "--executor", "inline")
    assert "two: nothing to do, all 2 cells have their result." in third and failure in third
    assert "nothing to do" in shapelex("run", "--executor", "inline", "--retry-failed")
    assert "1 done, 1 failed in " in shapelex("run", "--executor", "inline", "--force")


def test_what_takes_long_is_done_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, done = [100.0], list[float]()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    pace = progress.Pace(2.0)

    def slow() -> None:
        done.append(clock[0])
        clock[0] += 3.0

    for _ in range(100):
        pace.keep(slow)
        clock[0] += 0.5
    assert done[0] == 102.0 and done[1] - done[0] == progress.SHARE * 3.0
