"""A sweep on a Ray cluster of three faked nodes, one of which dies in the midst of it."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cluster_fixture import ray_cluster
from conftest import SHAPELEX, Finished, environment, task_of
from test_execute import ended
from typer.testing import CliRunner

from experiments import lease
from experiments.cli import app
from experiments.cluster import RayCluster
from experiments.execute import UNFIT, Job
from experiments.ledger import Store
from experiments.node import Unfit
from experiments.progress import epochs_done
from experiments.ray_executor import RayExecutor
from experiments.sweep import load


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(0, 1, 1) as made:
        yield made


class Ran(NamedTuple):
    code: int
    output: str
    died: str  # the signature of the trial whose node died
    store: Store
    file: Path


@pytest.fixture(scope="module")
def ran(cluster: Any, finished: Finished, new_store: Callable[[Path], Store], tmp_path_factory: Any) -> Ran:
    folder = tmp_path_factory.mktemp("ray")
    store = new_store(folder / "runs")
    command = [SHAPELEX, "run", str(finished.file), "--executor", "ray", "--devices", "cpu"]
    command += ["--cluster", f"address={cluster.address}", "--cluster", "gpus=0.5"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 200
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        for trial in store.root.glob("trials/*"):
            holder = lease.holder(trial)
            if holder is None or not holder.alive() or not epochs_done(trial):
                continue
            if kill_node(cluster, holder.pid):
                output, _ = process.communicate(timeout=300)
                return Ran(process.returncode, output, trial.name, store, finished.file)
        time.sleep(0.02)


def parents(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def kill_node(cluster: Any, pid: int) -> bool:
    """Kill the node that the process runs on, with all that it has started; not the head."""
    above = parents(pid)
    for node in cluster.worker_nodes:
        (raylet,) = [info.process.pid for info in node.all_processes["raylet"]]
        if raylet in above:
            cluster.remove_node(node, allow_graceful=False)
            return True
    return False


def test_a_sweep_whose_node_dies_ends_in_the_same_table(ran: Ran, finished: Finished) -> None:
    assert ran.code == 0, ran.output
    tables = [
        CliRunner().invoke(app, ["table", str(ran.file), "--store", str(store.root)]).output
        for store in (ran.store, finished.store)
    ]
    assert tables[0] == tables[1] and "| statistics" in tables[0]


def test_each_cell_has_one_accepted_result_and_nothing_is_left_behind(ran: Ran) -> None:
    for trial in ran.store.root.glob("trials/*"):
        assert (trial / "result.json").is_file() and lease.attempts(trial) == []


def test_the_trial_of_the_dead_node_went_on_and_that_is_no_failure(ran: Ran) -> None:
    result = ran.store.result(ran.died)
    assert result is not None and result["attempt"] > 1
    sweep = load(ran.file, ran.store)
    (label,) = [sweep.label(cell) for cell in sweep.cells if cell.signature == ran.died]
    assert f"{label}: validation" in ran.output and f"{label}: crashed" not in ran.output


def test_a_node_with_other_code_or_without_the_store_ends_a_launch_or_is_plugged(
    cluster: Any, jobs: Callable[[str], list[Job]]
) -> None:
    (job,) = jobs("statistics: {baseline: statistics}")
    task = task_of(job)
    other = task._replace(jobs=[job._replace(code="0" * 12)])
    blind = task._replace(log=Path("/nowhere/launch.log"))
    executor = RayExecutor(0, "cpu", RayCluster(address=cluster.address))
    room = len(executor.free)
    try:
        for bad, why in ((other, "has other code of ShapeLex"), (blind, "does not see")):
            executor.start(bad)
            with pytest.raises(Unfit, match=why):
                ended(executor)
        executor.start(task)
        assert [how for _, how in ended(executor)] == [None]
        executor.start(other)
        ((_, how),) = ended(executor)
        assert how is not None and how.startswith(UNFIT)
        executor.looked = 0.0
        assert len(executor.free) == room - 1
        executor.start(task)
        assert [how for _, how in ended(executor)] == ["held"]  # its result is there
    finally:
        executor.close()
