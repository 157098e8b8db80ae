"""Trials packed on GPUs that are made up: what nvidia-smi would say is the fault injected here, no more."""

from pathlib import Path

import pytest
from conftest import Finished
from test_execute import ended, task_of

from experiments import local_executor
from experiments.execute import Job
from experiments.local_executor import LocalExecutor
from experiments.packing import Packing, Use


class Gpus:
    """Two of 10 GB; each trial of ours takes 2 GB and 30 %. The second has 5 GB of somebody else's."""

    def __init__(self) -> None:
        self.executor: LocalExecutor | None = None

    def sample(self, device: str) -> Use | None:
        running = [] if self.executor is None else [other for _, _, other in self.executor.running]
        mine = running.count(device)
        others = 5000.0 if device == "cuda:1" else 0.0
        return Use(10_000.0, others + 2000.0 * mine, 0.3 * mine)


def packed(monkeypatch: pytest.MonkeyPatch, packing: Packing, workers: int) -> LocalExecutor:
    gpus = Gpus()
    monkeypatch.setattr(local_executor, "sample", gpus.sample)
    monkeypatch.setattr(local_executor, "LOOK_S", 1000.0)
    gpus.executor = LocalExecutor(workers, ["cuda:0", "cuda:1"], packing)
    return gpus.executor


def test_a_first_trial_runs_alone_then_each_gpu_is_filled_by_memory_and_use(
    monkeypatch: pytest.MonkeyPatch, finished: Finished, tmp_path: Path
) -> None:
    executor = packed(monkeypatch, Packing(None), workers=16)
    try:
        assert sorted(executor.free) == ["cuda:0", "cuda:1"]
        job = Job("0" * 16, {}, {}, str(tmp_path), "cuda:0", "code", 0.0)
        task = task_of(job)._replace(log=tmp_path / "log")
        executor.start(task)
        for _ in range(6):
            executor.look()
        assert len(ended(executor)) == 1
        executor.look()
        executor.learn(task, None, 1400.0)
        free = executor.free
        assert free.count("cuda:0") == 3  # 3 x 30 % of its time, though memory would take 4
        assert free.count("cuda:1") == 2  # memory: 10 GB x .9, less 5 GB of others
        executor.learn(task, "out of memory", None)
        assert executor.free.count("cuda:0") == 1
    finally:
        executor.close()


def test_a_number_fixes_how_many_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = packed(monkeypatch, Packing(2), workers=3)
    assert sorted(executor.free) == ["cuda:0", "cuda:0", "cuda:1"]
    executor.close()
