"""What every executor must do, and what the local one does about signals, deaths and orphans.

Ray runs on a cluster of one faked node with two fake GPUs, Slurm's jobs on submitit's local executor."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cluster_fixture import ray_cluster
from conftest import MICRO, SHAPELEX, Finished, environment, task_of
from typer.testing import CliRunner

from experiments import lease, local_executor
from experiments.cli import app
from experiments.cluster import RayCluster, SlurmCluster
from experiments.execute import EXECUTORS, Executor, InlineExecutor, Job, Task
from experiments.ledger import Store
from experiments.local_executor import LocalExecutor
from experiments.progress import epochs_done

Jobs = Callable[[str], list[Job]]
QUICK = "statistics: {baseline: statistics}"
ENDLESS = "plain: {train.epochs: 1000000}"
NO_SERVER = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_cluster(2) as cluster:
        yield cluster.address


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    devices, cluster = ["one", "two"], None
    if request.param == "ray":
        devices, cluster = ["cpu"], RayCluster(address=request.getfixturevalue("address"), gpus=0.5)
    if request.param == "slurm":
        devices, cluster = ["cpu"], SlurmCluster(local=True)
    made = EXECUTORS[request.param](2, devices, None, cluster)
    yield made
    made.close()


@pytest.fixture
def local() -> Iterator[LocalExecutor]:
    made = LocalExecutor(1, ["cpu"])
    yield made
    made.close()


def wait_for(what: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ended(executor: Executor) -> list[tuple[Task, str | None]]:
    """The next jobs that end."""
    deadline = time.monotonic() + 60
    while not (found := executor.poll(0.2)):
        assert time.monotonic() < deadline, "no job ended"
    return found


def broken(job: Job, folder: Path) -> Task:
    """A job that raises: its store is a file."""
    (folder / "file").touch()
    return task_of(job)._replace(jobs=[job._replace(store=str(folder / "file"))])


def test_each_job_is_reported_once_and_its_slot_is_free_again(
    executor: Executor, store: Store, jobs: Jobs
) -> None:
    (job,), slots, reports = jobs(QUICK), list(executor.free), 0
    tasks = [task_of(job) for _ in slots]
    for n, task in enumerate(tasks):
        assert len(executor.free) == len(slots) - n
        executor.start(task)
    assert executor.free == []
    while reports < len(slots):
        for task, death in ended(executor):
            reports += 1
            assert task == tasks[0] and death in (None, "held")
    assert sorted(executor.free) == sorted(slots) and executor.poll(0) == []
    result = store.result(job.signature)
    assert result is not None and result["status"] == "done"


def test_a_job_that_dies_is_reported_with_how_and_its_device_is_handed_on(
    executor: Executor, store: Store, jobs: Jobs, tmp_path: Path
) -> None:
    (job,), slots = jobs(QUICK), sorted(executor.free)
    executor.start(broken(job, tmp_path))
    assert [bool(death) for _, death in ended(executor)] == [True]
    assert sorted(executor.free) == slots
    for _ in slots:
        executor.start(task_of(job))
    deaths: list[str | None] = []
    while len(deaths) < len(slots):
        deaths += [death for _, death in ended(executor)]
    assert None in deaths and set(deaths) <= {None, "held"}


def train(executor: Executor, store: Store, jobs: Jobs) -> tuple[Task, Path]:
    """A trial that never ends, once it has done an epoch more."""
    (job,) = jobs(ENDLESS)
    task, trial = task_of(job), store.trial(job.signature)
    before = epochs_done(trial)
    executor.start(task)

    def further() -> bool:
        assert executor.poll(0.1) == []
        return epochs_done(trial) > before + 1

    wait_for(further)
    assert not executor.queued(task)
    return task, trial


def test_close_leaves_no_process(executor: Executor, store: Store, jobs: Jobs) -> None:
    if isinstance(executor, InlineExecutor):
        return executor.close()
    _, trial = train(executor, store, jobs)
    executor.close()
    wait_for(lambda: lease.running(trial) is None, timeout_s=10)
    assert multiprocessing.active_children() == []


def test_what_runs_gives_itself_back_where_it_is_asked_to_and_goes_on_from_there(
    executor: Executor, store: Store, jobs: Jobs
) -> None:
    if isinstance(executor, InlineExecutor):
        pytest.skip("it runs in the process that would ask")
    task, trial = train(executor, store, jobs)
    executor.interrupt()
    assert ended(executor) == [(task, "pre-empted")]
    assert (lease.live(trial) / "checkpoint").exists() and lease.running(trial) is None
    task, _ = train(executor, store, jobs)
    executor.kill(task)
    ((_, how),) = ended(executor)
    assert how not in (None, "pre-empted") and len(executor.free) == 2


def test_local_slots_share_the_devices_in_turn() -> None:
    executor = LocalExecutor(3, ["cuda:0", "cuda:1"])
    assert executor.free == ["cuda:0", "cuda:1", "cuda:0"]


def begin(local: LocalExecutor, store: Store, jobs: Jobs) -> tuple[int, Callable[[], int]]:
    """A trial in mid-training: its process id and how many epochs it has done."""
    (job,) = jobs(ENDLESS)
    local.start(task_of(job))
    trial = store.trial(job.signature)
    wait_for(lambda: epochs_done(trial) > 0)
    pid = local.running[0][0].pid
    assert pid is not None
    return pid, lambda: epochs_done(trial)


def test_a_trial_is_deaf_to_ctrl_c_and_its_death_by_a_signal_has_a_name(
    local: LocalExecutor, store: Store, jobs: Jobs
) -> None:
    for end, how in (
        (signal.SIGUSR2, "pre-empted"),
        (signal.SIGTERM, "pre-empted"),
        (signal.SIGSEGV, "killed by SIGSEGV"),
        (signal.SIGKILL, "killed by SIGKILL"),
    ):
        pid, done = begin(local, store, jobs)
        os.kill(pid, signal.SIGINT)
        before = done()
        wait_for(lambda: done() > before + 1)  # noqa: B023
        os.kill(pid, end)
        assert [death for _, death in ended(local)] == [how]
        assert local.free == ["cpu"]
    (log,) = store.root.glob("trials/*/attempt-*/log.txt")
    assert "Fatal Python error: Segmentation fault" in log.read_text()


def test_a_signal_to_all_processes_at_once_lets_trials_give_themselves_back(
    local: LocalExecutor, store: Store, jobs: Jobs
) -> None:
    """As a batch system sends it: the fork server must not end before its trials."""
    pid, _ = begin(local, store, jobs)
    server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for each in (server, pid):
        os.kill(each, signal.SIGTERM)
    assert [death for _, death in ended(local)] == ["pre-empted"]
    (job,) = jobs(ENDLESS)
    assert (lease.live(store.trial(job.signature)) / "checkpoint").exists()


def test_jobs_leave_no_file_open_in_the_coordinator(local: LocalExecutor, jobs: Jobs) -> None:
    (job,), counts = jobs(QUICK), []
    for _ in range(4):
        local.start(task_of(job))
        ended(local)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] == counts[1]


def test_the_environment_is_as_before_once_the_server_runs(local: LocalExecutor) -> None:
    before, mask = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    LocalExecutor(1, ["cpu"])
    assert dict(os.environ) == before and signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_a_ctrl_c_that_comes_while_the_server_starts_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    before, reached = dict(os.environ), []

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append("the end")

    monkeypatch.setattr(local_executor.forkserver, "ensure_running", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(1, ["cpu"])
    assert reached == ["the end"] and dict(os.environ) == before


def test_trials_end_with_their_fork_server_and_the_next_one_gets_a_new_server(
    local: LocalExecutor, store: Store, jobs: Jobs
) -> None:
    pid, _ = begin(local, store, jobs)
    server = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(server, signal.SIGKILL)
    assert [death for _, death in ended(local)] == ["its fork server died"]
    wait_for(lambda: not alive(pid), timeout_s=10)
    (job,) = jobs(QUICK)
    local.start(task_of(job))
    assert [death for _, death in ended(local)] == [None]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Stage(NamedTuple):
    """How a launch ended, and whether any process of its session was there 20 s later."""

    code: int
    output: str
    outlived: bool


class Disturbed(NamedTuple):
    """The same command on the same store: stopped while the fork server still imports, stopped and killed in
    mid-training, then two at once (with an MLflow server that is down)."""

    interrupted: Stage
    terminated: Stage
    killed: Stage
    together: list[Stage]
    store: Store
    file: Path


def session(leader: int) -> list[int]:
    """The live processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(sid) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def launched(file: Path, folder: Path, **changes: str) -> subprocess.Popen[str]:
    """`shapelex run` of that sweep with two workers, in a session of its own; the store is `folder`/runs."""
    return subprocess.Popen(
        [SHAPELEX, "run", str(file), "--workers", "2"], cwd=folder, env=environment(**changes), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], before: str = "") -> Stage:
    output, _ = process.communicate(timeout=120)
    deadline = time.monotonic() + 20
    while session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return Stage(process.returncode, before + output, bool(session(process.pid)))


def training(store: Store, launch: subprocess.Popen[str], done: int = 0) -> None:
    """Wait until `done` trials are done and one more trains."""

    def reached() -> bool:
        assert launch.poll() is None
        ended = list(store.root.glob("trials/*/result.json"))
        return len(ended) >= done and any(store.root.glob("trials/*/attempt-*/metrics.jsonl"))

    wait_for(reached, timeout_s=120)


@pytest.fixture(scope="module")
def disturbed(
    finished: Finished, new_store: Callable[[Path], Store], tmp_path_factory: pytest.TempPathFactory
) -> Disturbed:
    folder = tmp_path_factory.mktemp("disturbed")
    store = new_store(folder / "runs")
    # A folder of the same name where the user stands must not be taken for this package.
    (folder / "experiments").mkdir()
    (folder / "experiments" / "__init__.py").touch()

    def launch(**changes: str) -> subprocess.Popen[str]:
        return launched(finished.file, folder, **changes)

    process = launch(MLFLOW_TRACKING_URI=NO_SERVER)
    assert process.stdout is not None
    line = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    interrupted = end(process, line)

    process = launch(MLFLOW_TRACKING_URI=NO_SERVER)
    training(store, process)
    process.terminate()
    terminated = end(process)

    process = launch()
    training(store, process, done=1)
    process.kill()
    killed = end(process)

    both = [launch(MLFLOW_TRACKING_URI=NO_SERVER) for _ in range(2)]
    together = [end(process) for process in both]
    return Disturbed(interrupted, terminated, killed, together, store, finished.file)


def test_ctrl_c_stops_a_launch_that_still_prepares(disturbed: Disturbed) -> None:
    code, output, outlived = disturbed.interrupted
    assert code == 130 and not outlived and "Traceback" not in output
    assert "stopped at once. The same command goes on." in output


def test_sigterm_lets_trials_give_themselves_back(disturbed: Disturbed) -> None:
    code, output, outlived = disturbed.terminated
    assert code == 130 and not outlived and "Traceback" not in output
    assert "; stopped: SIGTERM. The same command goes on" in output
    for path in disturbed.store.root.glob("trials/*/history.json"):
        raise AssertionError(path.read_text())  # being pre-empted is not counted


def test_no_trial_outlives_a_killed_coordinator(store: Store, tmp_path: Path) -> None:
    """A trial of two epochs may end by itself in the tenth of a second that this takes; this one can't."""
    file = tmp_path / "endless.yaml"
    file.write_text(f"{MICRO}seeds: 1\nvariants: {{{ENDLESS}}}\n")
    process = launched(file, tmp_path)
    training(store, process)
    process.kill()
    assert not end(process).outlived and not any(store.root.glob("trials/*/result.json"))


def test_the_same_command_finishes_what_stops_and_kills_cut_short(
    disturbed: Disturbed, finished: Finished
) -> None:
    assert disturbed.killed.code == -signal.SIGKILL and not disturbed.killed.outlived
    assert [stage.code for stage in disturbed.together] == [0, 0], disturbed.together
    tables = [
        CliRunner().invoke(app, ["table", str(disturbed.file), "--store", str(store.root)]).output
        for store in (disturbed.store, finished.store)
    ]
    assert tables[0] == tables[1] and "| statistics" in tables[0]


def test_two_launches_at_once_run_each_trial_once(disturbed: Disturbed, finished: Finished) -> None:
    """Both tell of every trial; each ends with the whole table, and no lease is left."""
    for stage in disturbed.together:
        assert "0 failed in" in stage.output and stage.output.count("| statistics") == 1
    folders = [path for path in disturbed.store.root.glob("trials/*") if path.is_dir()]
    assert len(folders) == 5 and all(not lease.attempts(folder) for folder in folders)


def test_a_dead_mlflow_server_costs_one_line_and_no_trial(disturbed: Disturbed) -> None:
    lines = disturbed.together[0].output.splitlines()
    assert sum(line.startswith(f"MLflow at {NO_SERVER} failed: ") for line in lines) == 1
    assert "Traceback" not in disturbed.together[0].output
