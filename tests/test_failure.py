"""The ways in which trials fail, each with its policy and its word, and what is no failure."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MICRO, jobs_of, run_trial
from test_launch import Log, launch_of
from test_trial import numbers

from experiments import attempt, failure, launch, lease, ledger, lit, measure, trial
from experiments.execute import GONE, InlineExecutor, Job, Task
from experiments.failure import Again
from experiments.ledger import Store
from experiments.limits import Limits
from experiments.local_executor import LocalExecutor
from experiments.sweep import load
from experiments.todo import unfinished

Jobs = Callable[[str], list[Job]]


def ends(*words: str) -> list[dict[str, Any]]:
    return [{"attempt": i, "end": word, "detail": f"the {i}th"} for i, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ((), Again()),
        (("crashed", "timed out"), Again()),
        (("crashed", "timed out", "crashed"), None),
        (("out of memory",), Again(alone=True)),
        (("out of memory", "crashed", "out of memory"), Again(alone=True, recompute=True)),
        (("out of memory",) * 3, None),
        (("out of memory", "crashed", "crashed", "crashed"), None),
    ],
)
def test_how_often_and_how_a_trial_is_run_again(words: tuple[str, ...], how: Again | None) -> None:
    assert failure.again(ends(*words), retries=2) == how


def test_the_result_of_a_trial_that_is_given_up_tells_of_its_last_end() -> None:
    found = failure.given_up({"signature": "s"}, ends("crashed", "timed out"))
    assert found["failure"] == "timed out" and found["error"] == "crashed, timed out, last: the 1th"
    assert found["status"] == "failed" and found["metrics"] == {} and found["signature"] == "s"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (FloatingPointError("diverged: the loss is not finite"), "diverged"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (RuntimeError("CUDA error: out of memory"), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "crashed"),
        (OSError(errno.EMFILE, "Too many open files"), "crashed"),
        (ValueError("x"), "error"),
    ],
)
def test_what_a_trial_raised_has_a_word(error: Exception, word: str) -> None:
    assert failure.word(error) == word


def test_a_full_disk_is_told_from_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    store = str(tmp_path)

    def raised(number: int, name: str | None) -> BaseException:
        return OSError(number, os.strerror(number), name)

    assert failure.unwritable(raised(errno.ENOSPC, None), store) == "No space left on device"
    assert failure.unwritable(raised(errno.EFBIG, "/elsewhere"), store) == "File too large"
    assert failure.unwritable(raised(errno.EROFS, f"{store}/x"), store) == "Read-only file system"
    assert failure.unwritable(raised(errno.EACCES, "/elsewhere/data.csv"), store) is None
    assert failure.unwritable(raised(errno.ENOENT, f"{store}/x"), store) is None
    outer = RuntimeError("a library's own words")
    outer.__cause__ = raised(errno.EDQUOT, None)
    assert failure.unwritable(outer, store) == "Disk quota exceeded"


@pytest.fixture
def one(store: Store) -> Callable[[str], tuple[Any, list[str]]]:
    """A sweep of one or two micro trials in `store`, and what there is to run."""

    def plan(variants: str) -> tuple[Any, list[str]]:
        from conftest import MICRO

        file = store.root / "one.yaml"
        file.write_text(f"{MICRO}  figures: false\nvariants: {{{variants}}}\n")
        sweep = load(file, store)
        return sweep, unfinished(sweep, store)

    return plan


def test_out_of_memory_is_tried_alone_then_with_activations_recomputed_then_given_up(
    store: Store, one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, todo = one("big: {losses.ce_series: 1}, small: {baseline: statistics}")
    asked, real = list[tuple[str, bool]](), trial.run

    def spied(jobs: list[Job], own_process: bool) -> str | None:
        asked.append((jobs[0].config["baseline"], jobs[0].recompute))
        return real(jobs, own_process)

    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setitem(trial.CALLS, "run", spied)
    monkeypatch.setattr(lit.Lit, "training_step", full)
    log = Log()
    launch_of(sweep, store, InlineExecutor(1, ["cpu"]), log, todo).run()
    assert asked == [("none", False), ("statistics", False), ("none", False), ("none", True)]
    found = {r["config"]["baseline"]: r for r in log.results.values()}
    assert found["none"]["failure"] == "out of memory" and found["statistics"]["status"] == "done"
    assert found["none"]["error"].startswith("out of memory 3 times, last: OutOfMemoryError: CUDA out of")


class Cards:
    """An executor of two GPUs with two places each, whose trials never end."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str]] = []

    @property
    def free(self) -> list[str]:
        on = [device for _, device in self.started]
        return [device for device in ("cuda:0", "cuda:1") for _ in range(2 - on.count(device))]

    def start(self, task: Task) -> None:
        self.started.append((task.jobs[0].signature, task.jobs[0].device))


def test_a_gpu_that_one_trial_needs_for_itself_keeps_no_other_gpu_waiting(store: Store, one: Any) -> None:
    sweep, todo = one("a: {losses.ce_series: 1}, b: {losses.ce_series: 2}, c: {losses.ce_series: 3}")
    big, cards = todo[0], Cards()
    failure.note(store.trial(big), "out of memory", "at batch 3")
    begun = launch_of(sweep, store, cards, Log(), todo)
    begun.add()
    waiting = [begun.queue.ready.popleft() for _ in range(2)]
    begun.fill()
    for signature in waiting:
        begun.queue.push(signature)
    begun.fill()
    assert cards.started == [(big, "cuda:0"), *((signature, "cuda:1") for signature in waiting)]


def test_recomputed_activations_change_no_number(store: Store, jobs: Jobs) -> None:
    (job,) = jobs("a: {model.guidance.attention: two_way, losses.info_nce: 0.1}")
    run_trial(job)
    plain = numbers(store, job)
    run_trial(job._replace(recompute=True))
    assert numbers(store, job) == plain


def test_a_trial_that_hangs_is_killed_run_again_and_ends_like_an_undisturbed_one(
    store: Store, new_store: Callable[[Path], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LOOK_S", 0.2)
    file, calm = tmp_path / "long.yaml", new_store(tmp_path / "calm")
    file.write_text(MICRO + "variants: {plain: {train.epochs: 20}}\n")  # it must not end before it is stopped
    sweep = load(file, store)
    (victim,) = sweep.configs
    folder, stopped, over = store.trial(victim), list[int](), threading.Event()

    def stop() -> None:
        while not stopped and not over.is_set():
            holder = lease.running(folder)
            if holder is not None and (lease.live(folder) / "metrics.jsonl").exists():
                with suppress(ProcessLookupError):
                    os.kill(holder.pid, signal.SIGSTOP)
                    stopped.append(holder.pid)
            time.sleep(0.005)

    hanger = threading.Thread(target=stop)
    hanger.start()
    log = Log()
    made = launch_of(sweep, store, LocalExecutor(1, ["cpu"]), log, [victim])
    made.limits = Limits(timeout_s=10.0)  # a busy machine takes seconds to start one
    made.run()
    over.set()
    hanger.join()
    run_trial(*jobs_of(sweep, calm))
    result, undisturbed = log.results[victim], calm.result(victim)
    assert undisturbed is not None and result["status"] == "done" and result["attempt"] == 2
    assert result["metrics"] == undisturbed["metrics"]
    with pytest.raises(ProcessLookupError):
        os.kill(stopped[0], 0)


class Disk:
    """Writes fail as on a full disk while `left` says how many more do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        for module in (ledger, attempt):
            monkeypatch.setattr(module, "write_bytes", self.guard(ledger.write_bytes))

    def guard(self, real: Callable[..., None]) -> Callable[..., None]:
        def write(path: Path, *args: Any, **kwargs: Any) -> None:
            if self.left > 0:
                self.left -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(path, *args, **kwargs)

        return write


class Notes(Log):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.mark.parametrize("fails", [1, 2, 5])
def test_on_a_full_disk_a_sweep_pauses_with_a_clear_line_and_goes_on_by_itself(
    store: Store, one: Any, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    monkeypatch.setattr(launch, "LOOK_S", 0.1)
    sweep, todo = one("a: {losses.ce_series: 1}, b: {baseline: statistics}")
    log = Notes()
    made = launch_of(sweep, store, InlineExecutor(1, ["cpu"]), log, todo)
    made.jobs.keep_code()
    Disk(monkeypatch, fails)
    summary = made.run()
    assert summary[:2] == (2, 0)
    paused = [line for line in log.notes if line.startswith("paused")]
    assert paused and all("can't be written to" in line and "nothing is lost" in line for line in paused)
    assert log.notes.count("the store can be written to again: going on") == len(paused)
    assert not list(store.root.glob("trials/*/history.json"))


def test_a_failed_result_that_finds_no_room_is_written_once_there_is(
    store: Store, one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch, which claims the trial for it, must not wait for itself."""
    monkeypatch.setattr(launch, "LOOK_S", 0.1)
    sweep, todo = one("a: {baseline: statistics}")
    folder = store.trial(todo[0])
    folder.mkdir(parents=True)
    ledger.write_json(folder / "history.json", ends("crashed", "crashed", "crashed"))
    log, real, left = Log(), ledger.write_bytes, [1]

    def write(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "result.json" and left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, *args, **kwargs)

    monkeypatch.setattr(ledger, "write_bytes", write)
    launch_of(sweep, store, InlineExecutor(1, ["cpu"]), log, todo).run()
    assert log.results[todo[0]]["failure"] == "crashed" and left == [0]


def test_what_another_launch_finished_meanwhile_is_not_given_up(
    store: Store, one: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, todo = one("a: {baseline: statistics}")
    folder, real = store.trial(todo[0]), lease.claim
    folder.mkdir(parents=True)
    ledger.write_json(folder / "history.json", ends("crashed", "crashed", "crashed"))

    def slow(trial: Path, *args: Any) -> lease.Lease:
        monkeypatch.setattr(lease, "claim", real)
        result = {"signature": todo[0], "status": "done", "finished_at": "2026-11-21T21:00:00Z"}
        real(trial).accept(result | {"metrics": {"val/macro_f1": 1.0}})
        return real(trial, *args)

    monkeypatch.setattr(lease, "claim", slow)
    log = Log()
    launch_of(sweep, store, InlineExecutor(1, ["cpu"]), log, todo).run()
    assert log.results[todo[0]]["status"] == "done" and lease.attempts(folder) == []


SPOILED = {
    "empty": lambda data: b"",
    "torn": lambda data: data[: len(data) // 2],
    "garbled": lambda data: data[:-9] + b"\0" + data[-8:],
    "another machine's": lambda data: data[:17] + b"0" * 16 + data[33:],
    "another trial's": lambda data: b"0" * 16 + data[16:],
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_checkpoint_that_is_not_this_trials_whole_one_is_left_alone(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (job,) = jobs("a: {train.epochs: 2}")
    run_trial(job)
    whole = numbers(store, job)
    with monkeypatch.context() as patch:  # trained, and killed while it is evaluated
        patch.setattr(measure, "probed", lambda *_: (_ for _ in ()).throw(attempt.Stopped("pre-empted")))
        assert run_trial(job) == "pre-empted"
    path = lease.live(store.trial(job.signature)) / "checkpoint"
    path.write_bytes(SPOILED[how](path.read_bytes()))
    run_trial(job)
    assert numbers(store, job) == whole


def real_identity(store: Store, job: Job) -> str:
    """What this machine's checkpoints of the trial begin with."""
    from experiments.code import ORIGIN
    from experiments.environment import environment
    from experiments.identity import digest

    told = {name: value for name, value in environment(job).items() if name not in ORIGIN}
    return f"{job.signature} {digest(told)[:16]}"


def test_nothing_in_a_checkpoint_is_run(
    store: Store, jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib
    import io

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    (job,) = jobs("a: {train.epochs: 1}")
    buffer = io.BytesIO()
    torch.save({"lines": [], "seconds": [0, 0, 0], "lit": Malicious()}, buffer)
    mine = lease.claim(store.trial(job.signature))
    data = buffer.getvalue()
    identity = real_identity(store, job)
    head = f"{identity} {hashlib.sha256(data).hexdigest()}\n"
    (mine.folder / "checkpoint").write_bytes(head.encode() + data)
    mine.release()
    run_trial(job)
    assert "the checkpoint can't be read (UnpicklingError)" in capsys.readouterr().out
    assert numbers(store, job) and not (tmp_path / "run").exists()


def test_a_clock_that_is_set_back_changes_no_number(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("a: {train.epochs: 3}")
    run_trial(job)
    whole, real = numbers(store, job), time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3e6)
    run_trial(job)
    assert numbers(store, job) == whole
    result = store.result(job.signature)
    assert result is not None and min(result["cost"].values()) >= 0


class Losing(InlineExecutor):
    """Loses the machine of each of the first trials that it starts, after `epochs` more of it."""

    def __init__(self, losses: int, epochs: int) -> None:
        super().__init__(1, ["cpu"])
        self.losses, self.epochs = losses, epochs

    def start(self, task: Task) -> None:
        if task.call != "run" or not self.losses:
            return super().start(task)
        self.losses -= 1
        lost = lease.claim(Store(Path(task.jobs[0].store)).trial(task.jobs[0].signature))
        with (lost.folder / "metrics.jsonl").open("a") as file:
            file.write("{}\n" * self.epochs)
        lost.release()
        self.ended.append((task, self.free.pop(0), GONE))


@pytest.mark.parametrize(("losses", "epochs", "ends"), [(5, 1, "done"), (2, 0, "done"), (3, 0, "failed")])
def test_a_machine_that_is_lost_counts_against_a_trial_only_where_it_got_no_further(
    store: Store, tmp_path: Path, losses: int, epochs: int, ends: str
) -> None:
    (tmp_path / "one.yaml").write_text(f"{MICRO}variants: {{statistics: {{baseline: statistics}}}}\n")
    sweep, log = load(tmp_path / "one.yaml", store), Log()
    (signature,) = sweep.configs
    launch_of(sweep, store, Losing(losses, epochs), log, [signature]).run()
    result = log.results[signature]
    assert result["status"] == ends
    if ends == "failed":
        assert result["failure"] == "crashed" and GONE in result["error"]
    else:
        assert result["attempt"] == losses + 1
