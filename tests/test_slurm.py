"""Slurm jobs, on submitit's local executor: pre-empted in mid-trial, outlived by their trial, refused."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import SHAPELEX, Finished, environment
from typer.testing import CliRunner

from experiments import lease
from experiments.cli import app
from experiments.cluster import SlurmCluster
from experiments.execute import Task
from experiments.ledger import Store
from experiments.node import Unfit
from experiments.progress import epochs_done
from experiments.slurm_executor import SlurmExecutor


class Ran(NamedTuple):
    code: int
    output: str
    hit: list[str]  # the trials that a signal met, in the order of SIGNALS
    store: Store
    file: Path


def task_itself(pid: int) -> int:
    """As Slurm signals the steps of a job."""
    return pid


def controller(pid: int) -> int:
    """submitit's, which dies of it and leaves its task behind."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


SIGNALS = [(task_itself, signal.SIGUSR2), (controller, signal.SIGKILL)]


@pytest.fixture(scope="module")
def ran(finished: Finished, new_store: Callable[[Path], Store], tmp_path_factory: Any) -> Ran:
    folder = tmp_path_factory.mktemp("slurm")
    store, hit = new_store(folder / "runs"), list[str]()
    command = [SHAPELEX, "run", str(finished.file), "--executor", "slurm", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--cluster", "local=true"], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while len(hit) < len(SIGNALS):
        assert process.poll() is None and time.monotonic() < deadline
        for trial in store.root.glob("trials/*"):
            holder = lease.holder(trial)
            if holder is None or not holder.alive() or not epochs_done(trial) or trial.name in hit:
                continue
            whose, number = SIGNALS[len(hit)]
            os.kill(whose(holder.pid), number)
            hit.append(trial.name)
            break
        time.sleep(0.02)
    output, _ = process.communicate(timeout=300)
    return Ran(process.returncode, output, hit, store, finished.file)


def test_a_sweep_with_a_pre_emption_and_a_lost_job_ends_in_the_same_table(
    ran: Ran, finished: Finished
) -> None:
    assert ran.code == 0, ran.output
    tables = [
        CliRunner().invoke(app, ["table", str(ran.file), "--store", str(store.root)]).output
        for store in (ran.store, finished.store)
    ]
    assert tables[0] == tables[1] and "| statistics" in tables[0]
    for trial in ran.store.root.glob("trials/*"):
        assert (trial / "result.json").is_file() and lease.attempts(trial) == []


def test_a_pre_empted_trial_goes_on_from_its_checkpoint_in_another_job(ran: Ran) -> None:
    trial = ran.store.trial(ran.hit[0])
    result = ran.store.result(ran.hit[0])
    assert result is not None and result["attempt"] > 1
    log = (trial / "log.txt").read_text()
    assert "--- attempt" in log and "starting anew" not in log


def test_a_trial_that_outlives_its_job_ends_once(ran: Ran) -> None:
    result = ran.store.result(ran.hit[1])
    assert result is not None and result["status"] == "done"


def test_ended_jobs_leave_no_files_but_those_of_lost_ones(ran: Ran) -> None:
    kept = [path for path in ran.store.root.glob("sweeps/*/slurm/*") if path.is_dir()]
    assert len(kept) <= 1


def test_without_slurm_a_launch_says_so_at_once() -> None:
    with pytest.raises(Unfit, match="there is no sbatch here"):
        SlurmExecutor(1, "cpu", SlurmCluster())


def test_what_sbatch_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By submitit's own words: the file that it would hand to sbatch."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    ask = SlurmCluster(
        partition="gpu", time="2h30m", gpus=1, account="lab", memory_gb=8, setup="module load cuda"
    )
    executor = SlurmExecutor(7, "cuda:0", ask)
    executor.bad = {"node3"}
    made = executor._submitter(Task("run", [], tmp_path / "quick" / "launch.log"))._executor
    said = made._make_submission_file_text("work", "x")
    for line in (
        "--partition=gpu", "--time=150", "--gpus-per-node=1", "--account=lab", "--mem=8GB", "--exclude=node3",
        "--job-name=shapelex-quick", "--signal=USR2@90", "module load cuda",
    ):  # fmt: skip
        assert line in said, said
