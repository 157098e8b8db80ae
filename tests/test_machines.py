"""A sweep on many machines, some of which fail.

Ray: three faked nodes, one of which dies in the midst of it. Slurm: by submitit's local executor, one job
pre-empted, one outlived by its trial. Then machines that are not fit, and what Slurm's commands may say.
"""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cluster_fixture import ray_cluster
from conftest import SHAPELEX, TINY, environment, task_of
from test_execute import ended
from typer.testing import CliRunner

from experiments import lease
from experiments.cli import app
from experiments.cluster import RayCluster, SlurmCluster
from experiments.execute import UNFIT, Job, Task
from experiments.ledger import Store
from experiments.node import Unfit
from experiments.progress import epochs_done
from experiments.ray_executor import RayExecutor
from experiments.slurm_executor import SlurmExecutor, _watcher
from experiments.sweep import load

# A trial of two epochs may end by itself before a signal meets it.
LONG = TINY.replace("epochs: 2", "epochs: 15").replace("seeds: 2", "seeds: 1")
NewStore = Callable[[Path], Store]
Hit = Callable[[int], bool]  # whether a fault could be injected, given a trial's process


class Ran(NamedTuple):
    """hit: the trials that a fault met, in the faults' order."""

    code: int
    output: str
    hit: list[str]
    store: Store
    file: Path

    def table(self) -> str:
        command = ["table", str(self.file), "--store", str(self.store.root)]
        return CliRunner().invoke(app, command).output


def ran_with(folder: Path, new_store: NewStore, words: list[str], faults: list[Hit]) -> Ran:
    """A launch of LONG; each fault meets another trial, in the midst of its training."""
    store, hit, file = new_store(folder / "runs"), list[str](), folder / "long.yaml"
    file.write_text(LONG)
    process = subprocess.Popen(
        [SHAPELEX, "run", str(file), *words],
        cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while len(hit) < len(faults):
        assert process.poll() is None and time.monotonic() < deadline
        for trial in store.root.glob("trials/*"):
            holder = lease.holder(trial)
            if holder is None or not holder.alive() or epochs_done(trial) < 2 or trial.name in hit:
                continue
            with suppress(OSError):
                if faults[len(hit)](holder.pid):
                    hit.append(trial.name)
                    break
        time.sleep(0.02)
    output, _ = process.communicate(timeout=300)
    return Ran(process.returncode, output, hit, store, file)


@pytest.fixture(scope="module")
def calm(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return ran_with(tmp_path_factory.mktemp("calm"), new_store, ["--workers", "2"], [])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(0, 1, 1) as made:
        yield made


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def on_ray(cluster: Any, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    def kill_node(pid: int) -> bool:
        above = list[int]()
        while pid > 1:
            pid = parent(pid)
            above.append(pid)
        for node in cluster.worker_nodes:
            if node.all_processes["raylet"][0].process.pid in above:
                cluster.remove_node(node, allow_graceful=False)
                return True
        return False

    words = ["--executor", "ray", "--devices", "cpu", "--cluster", f"address={cluster.address}"]
    words += ["--cluster", "gpus=0.5"]
    return ran_with(tmp_path_factory.mktemp("ray"), new_store, words, [kill_node])


@pytest.fixture(scope="module")
def on_slurm(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    def pre_empt(pid: int) -> bool:
        """As Slurm signals the steps of a job."""
        os.kill(pid, signal.SIGUSR2)
        return True

    def lose_job(pid: int) -> bool:
        """submitit's controller dies and leaves the trial behind."""
        os.kill(parent(pid), signal.SIGKILL)
        return True

    words = ["--executor", "slurm", "--workers", "2", "--cluster", "local=true"]
    return ran_with(tmp_path_factory.mktemp("slurm"), new_store, words, [pre_empt, lose_job])


@pytest.fixture(params=["on_ray", "on_slurm"])
def ran(request: pytest.FixtureRequest) -> Ran:
    found: Ran = request.getfixturevalue(request.param)
    return found


def label(ran: Ran, signature: str) -> str:
    sweep = load(ran.file, ran.store)
    return next(sweep.label(cell) for cell in sweep.cells if cell.signature == signature)


def test_a_sweep_with_faults_ends_in_the_table_of_an_undisturbed_one(ran: Ran, calm: Ran) -> None:
    assert ran.code == 0, ran.output
    assert ran.table() == calm.table() and "| statistics" in calm.table()


def test_each_cell_ended_once_and_nothing_is_left_behind(ran: Ran) -> None:
    lines = [line.split("  ")[1].split(":")[0] for line in ran.output.splitlines() if ": validation" in line]
    assert set(Counter(lines).values()) == {1} and len(lines) == 3, ran.output
    for trial in ran.store.root.glob("trials/*"):
        assert (trial / "result.json").is_file() and lease.attempts(trial) == []


def test_what_a_dead_node_or_a_pre_emption_met_went_on_and_that_is_no_failure(ran: Ran) -> None:
    result = ran.store.result(ran.hit[0])
    assert result is not None and result["attempt"] > 1
    assert f"{label(ran, ran.hit[0])}: crashed" not in ran.output
    log = (ran.store.trial(ran.hit[0]) / "log.txt").read_text()
    assert "--- attempt" in log and "starting anew" not in log


def test_a_trial_that_outlives_its_job_keeps_its_result(on_slurm: Ran) -> None:
    result = on_slurm.store.result(on_slurm.hit[1])
    assert result is not None and result["status"] == "done" and result["attempt"] == 1


def test_jobs_leave_no_files_but_those_of_lost_ones(on_slurm: Ran) -> None:
    assert len(list(on_slurm.store.root.glob("sweeps/*/slurm/*"))) <= 1


@pytest.fixture
def task(jobs: Callable[[str], list[Job]]) -> Task:
    return task_of(*jobs("statistics: {baseline: statistics}"))


def other_code(task: Task) -> Task:
    return task._replace(jobs=[task.jobs[0]._replace(code="0" * 12)])


def test_where_no_node_is_fit_a_launch_ends_and_says_why(cluster: Any, task: Task) -> None:
    blind = task._replace(log=Path("/nowhere/launch.log"))
    for bad, why in ((other_code(task), "has other code of ShapeLex"), (blind, "does not see")):
        executor = RayExecutor(2, "cpu", RayCluster(address=cluster.address))
        try:
            for _ in range(2):
                executor.start(bad)
                assert str(ended(executor)[0][1]).startswith(UNFIT)
            executor.start(bad)
            with pytest.raises(Unfit, match=why):
                ended(executor)
        finally:
            executor.close()


def test_a_slot_that_is_not_fit_among_others_is_plugged(cluster: Any, task: Task) -> None:
    executor = RayExecutor(0, "cpu", RayCluster(address=cluster.address))
    room = len(executor.free)
    try:
        executor.start(task)
        assert [how for _, how in ended(executor)] == [None]
        for _ in range(3):  # as many as would end a launch where none was fit
            executor.start(other_code(task))
            assert str(ended(executor)[0][1]).startswith(UNFIT)
        executor._look()
        assert len(executor.free) == room - len(executor.plugs) < room
        with pytest.raises(Unfit, match="no machine of the Ray cluster has"):
            while True:
                executor.start(other_code(task))
                ended(executor)
                executor._look()
    finally:
        executor.close()


def test_what_no_node_has_is_said_at_once(cluster: Any) -> None:
    with pytest.raises(Unfit, match="cpus=1 gpus=3"):
        RayExecutor(0, "cpu", RayCluster(address=cluster.address, gpus=3))
    with pytest.raises(Unfit, match="memory_gb=100000"):
        RayExecutor(0, "cpu", RayCluster(address=cluster.address, memory_gb=100_000))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands on the PATH that stand for Slurm's where one is to fail."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def command(tools: Path, name: str, script: str) -> None:
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)


def test_states_of_jobs_are_read_as_squeue_tells_them(tools: Path) -> None:
    command(tools, "squeue", "cat $0.says")
    watcher = _watcher()
    states = {
        "7_0": "CONFIGURING",
        "7_1": "SUSPENDED",
        "7_2": "PREEMPTED",
        "7_3": "NODE_FAIL",
        "8": "PENDING",
    }

    def says(told: dict[str, str]) -> None:
        lines = [f"{job}|{state}|node{job}" for job, state in told.items()]
        (tools / "squeue.says").write_text("\n".join(["JOBID|STATE|NODELIST", *lines]))

    for job in (*states, "9"):
        watcher.register_job(job)
    says(states)
    assert {job for job in (*states, "9") if watcher.is_done(job, "force")} == {"7_2", "7_3", "9"}
    assert watcher.get_state("9", "cache") == "FORGOTTEN"
    says({})
    time.sleep(0.01)
    watcher.update()
    found = {job: watcher.get_state(job, "cache") for job in states}
    assert found == states | {"7_0": "FORGOTTEN", "7_1": "FORGOTTEN", "8": "FORGOTTEN"}
    command(tools, "squeue", "exit 1")  # away: nothing is known anew
    watcher.register_job("10")
    assert not watcher.is_done("10", "force")


def test_an_sbatch_that_refuses_says_why_and_later_is_asked_again(tools: Path, task: Task) -> None:
    command(tools, "srun", "exit 1")
    command(tools, "sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    executor = SlurmExecutor(2, "cpu", SlurmCluster())
    executor.start(task)
    with pytest.raises(Unfit, match=r"sbatch refused: .*invalid partition"):
        executor.poll(0)
    command(tools, "sbatch", "echo Submitted batch job 7")
    command(tools, "squeue", "echo 'JOBID|STATE|NODELIST'; echo '7|RUNNING|node1'")
    command(tools, "scancel", "echo $@ >> $0.told")
    assert executor.poll(0) == [] and executor.queued(task)
    command(tools, "sbatch", "exit 1")
    executor.start(task)
    assert executor.poll(0) == [] and executor.again > time.monotonic() and len(executor.free) == 0
    executor.interrupt()
    assert executor.poll(0) == [(task, "pre-empted")] * 2
    executor.close()
    assert (tools / "scancel.told").read_text().splitlines() == [
        "--quiet --state=PENDING 7", "--quiet --signal=TERM 7", "--quiet 7"
    ]  # fmt: skip


def test_without_slurm_a_launch_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unfit, match="there is no sbatch here"):
        SlurmExecutor(1, "cpu", SlurmCluster())


def test_what_sbatch_is_given(tools: Path, tmp_path: Path) -> None:
    """By submitit's own words: the file that it would hand to sbatch."""
    for name in ("sbatch", "srun"):
        command(tools, name, "exit 1")
    words = {"partition": "gpu", "time": "2h30m", "account": "lab", "setup": "module load cuda"}
    executor = SlurmExecutor(7, "cuda:0", SlurmCluster(**words, gpus=1, cpus=3, memory_gb=8))
    executor.bad = {"node3"}
    made = executor._submitter(Task("run", [], tmp_path / "quick" / "launch.log"))._executor
    said = made._make_submission_file_text("work", "x")
    for line in (
        "--partition=gpu", "--time=150", "--gpus-per-node=1", "--account=lab", "--mem=8GB", "--exclude=node3",
        "--job-name=shapelex-quick", "--signal=USR2@90", "--no-requeue\n", "module load cuda",
        "--cpus-per-task=3",
    ):  # fmt: skip
        assert line in said, said
