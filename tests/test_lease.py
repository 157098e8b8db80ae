"""Who may run a trial, whose result counts, and what is left where somebody died half-way."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import lease, ledger
from experiments.lease import Held, Lost, claim


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return tmp_path / "trials" / ("0" * 16)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives, and holds whatever a test says it does."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    yield process
    process.kill()
    process.wait()


def held_by(trial: Path, pid: int, machine: str | None = None) -> None:
    """Make the newest attempt that process's."""
    path = lease.live(trial) / "lease.json"
    told = json.loads(path.read_text()) | {"pid": pid, "born": lease.born(pid)}
    path.write_text(json.dumps(told | ({"machine": machine} if machine else {})))


def result(trial: Path) -> dict[str, object]:
    return json.loads((trial / "result.json").read_text())


def test_a_live_process_holds_its_lease_and_a_dead_ones_is_taken_over_with_what_it_left(
    trial: Path, stranger: subprocess.Popen[bytes]
) -> None:
    first = claim(trial)
    (first.folder / "checkpoint").write_text("half")
    held_by(trial, stranger.pid)
    with pytest.raises(Held, match=f"process {stranger.pid} on "):
        claim(trial)
    stranger.kill()
    stranger.wait()
    second = claim(trial)
    assert second.attempt == 2 and (second.folder / "checkpoint").read_text() == "half"
    assert lease.attempts(trial) == [2]


def test_another_process_of_the_same_number_is_not_the_holder(trial: Path) -> None:
    claim(trial)
    path = lease.live(trial) / "lease.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"born": "12345"}))
    assert claim(trial).attempt == 2


def test_a_holder_elsewhere_is_taken_over_only_by_who_saw_its_heart_stand_still(trial: Path) -> None:
    claim(trial)
    held_by(trial, os.getpid(), machine="another one")
    seen = lease.holder(trial)
    assert seen is not None and seen.alive() is None
    with pytest.raises(Held):
        claim(trial)
    os.utime(lease.live(trial) / "lease.json", (1, 1))  # it beats on, by a clock of its own
    with pytest.raises(Held):
        claim(trial, stale=seen)
    assert claim(trial, stale=lease.holder(trial)).attempt == 2


def test_a_late_result_of_a_lost_lease_is_rejected(trial: Path) -> None:
    late = claim(trial)
    held_by(trial, os.getpid(), machine="another one")
    mine = claim(trial, stale=lease.holder(trial))
    with pytest.raises(Lost):
        late.accept({"status": "done", "from": "late"})
    mine.accept({"status": "done", "from": "mine"})
    with pytest.raises(Lost):
        late.accept({"status": "done", "from": "late"})
    assert result(trial) == {"status": "done", "from": "mine", "attempt": 2, "files": []}


def test_what_a_lost_lease_writes_after_all_never_counts(trial: Path) -> None:
    late = claim(trial)
    held_by(trial, os.getpid(), machine="another one")
    mine = claim(trial, stale=lease.holder(trial))
    late.folder.mkdir()  # a library that makes the folders it writes to
    (late.folder / "result.json").write_text(json.dumps({"status": "done", "from": "late", "files": []}))
    (mine.folder / "config.json").write_text("mine")
    mine.accept({"status": "done", "from": "mine"})
    lease.settled(trial)
    assert result(trial)["from"] == "mine" and (trial / "config.json").read_text() == "mine"
    assert lease.attempts(trial) == [] and claim(trial).attempt == 3


def test_a_claim_that_fails_half_way_is_no_claim(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = claim(trial)
    (first.folder / "log.txt").touch()
    first.release()
    with monkeypatch.context() as patch:
        patch.setattr(lease.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            claim(trial)
    assert lease.holder(trial) is None and claim(trial).attempt == 3


@pytest.mark.parametrize("name", ["result.json", "history.json", "attempt-1", "attempt-" + 200 * "9"])
@pytest.mark.parametrize("kind", ["folder", "list", "text"])
def test_odd_things_in_a_trials_folder_stop_nobody(trial: Path, name: str, kind: str) -> None:
    trial.mkdir(parents=True)
    if kind == "folder":
        (trial / name / "below").mkdir(parents=True)
    else:
        (trial / name).write_text('[{}, {"end": 1}, 7]' if kind == "list" else "text")
    lease.settled(trial)
    assert lease.history(trial) == []
    mine = claim(trial)
    mine.accept({"status": "done"})
    assert result(trial)["status"] == "done"


@pytest.mark.parametrize("kind", ["file", "link to nowhere", "link to itself"])
def test_what_stands_in_a_trials_place_stops_nobody(trial: Path, kind: str) -> None:
    trial.parent.mkdir(parents=True)
    if kind == "file":
        trial.write_text("text")
    else:
        trial.symlink_to(trial if kind == "link to itself" else "nowhere")
    claim(trial).accept({"status": "done"})
    assert result(trial)["status"] == "done"


def test_a_lease_that_is_lost_says_so_to_who_had_it(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    late = claim(trial)
    held_by(trial, os.getpid(), machine="another one")
    deadline = time.monotonic() + 10
    while late.asked is None and time.monotonic() < deadline:
        if lease.attempts(trial) == [1]:
            seen = lease.holder(trial)
            try:
                claim(trial, stale=seen)
            except Held:
                continue  # a beat came between
        time.sleep(0.01)
    assert late.asked == "lost"


def test_a_heart_beats_while_its_process_works_and_progress_only_while_the_trial_gets_on(
    trial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    mine = claim(trial)

    def mtimes() -> list[int]:
        files = [mine.folder / name for name in ("lease.json", "progress")]
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]

    mine.step()
    deadline = time.monotonic() + 10
    while 0 in mtimes() and time.monotonic() < deadline:
        time.sleep(0.01)
    before = mtimes()
    time.sleep(0.2)
    after = mtimes()
    assert 0 not in before and after[0] > before[0] and after[1] == before[1]


FILES = {"config.json": "new", "model/weights": "new", "log.txt": "new"}


def filled(trial: Path) -> lease.Lease:
    """An attempt with a result to give, over an older accepted one that had other files."""
    for name in ("config.json", "predictions.npz", "figures/a.png"):
        (trial / name).parent.mkdir(parents=True, exist_ok=True)
        (trial / name).write_text("old")
    (trial / "result.json").write_text(json.dumps({"status": "failed", "attempt": 4}))
    mine = claim(trial)
    for name, text in FILES.items():
        (mine.folder / name).parent.mkdir(exist_ok=True)
        (mine.folder / name).write_text(text)
    return mine


def left(trial: Path) -> dict[str, str]:
    return {str(p.relative_to(trial)): p.read_text() for p in trial.rglob("*") if p.is_file()}


@pytest.mark.parametrize("died_after", range(12))
def test_an_acceptance_that_dies_anywhere_is_finished_by_who_comes_next(trial: Path, died_after: int) -> None:
    """In a process of its own, killed at its nth change of the file system; the old result counts until the
    new one does, and in the end the trial holds the new one's files and no others."""
    mine = filled(trial)
    assert mine.attempt == 5
    pid = os.fork()
    if pid == 0:
        done = [0]

        def counted(real: object) -> object:
            def call(*args: object, **kwargs: object) -> object:
                if done[0] == died_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                done[0] += 1
                return real(*args, **kwargs)  # type: ignore[operator]

            return call

        for name in ("rename", "replace", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        held_by(trial, os.getpid())
        mine.accept({"status": "done"})
        os._exit(0)
    os.waitpid(pid, 0)
    half = result(trial)
    assert half["status"] in ("failed", "done")
    lease.settled(trial)
    if result(trial)["status"] == "failed":  # it had not given its result yet
        assert died_after == 0
        return
    found = left(trial)
    assert json.loads(found.pop("result.json"))["attempt"] == 5
    assert {name: text for name, text in found.items() if name not in ("lock",)} == FILES


@pytest.mark.parametrize("spoiled", ["", "{", "[]", '{"pid": []}', "\0"])
def test_what_is_not_readable_in_a_trials_folder_is_nobodys(trial: Path, spoiled: str) -> None:
    mine = claim(trial)
    for path in (mine.folder / "lease.json", trial / "history.json", trial / "result.json"):
        path.write_text(spoiled)
    (mine.folder / "result.json").write_text(spoiled)
    assert lease.holder(trial) is None and lease.history(trial) == []
    assert claim(trial).attempt == 2


def test_a_folder_that_another_machine_removed_is_a_lost_lease_in_the_words_of_nfs_too(
    trial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = lease.claim(trial)

    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(ledger.os, "replace", stale)
    with pytest.raises(lease.Lost):
        mine.accept({"status": "done"})
    mine.drop()


def test_a_file_that_another_machine_replaces_as_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("1")
    left, real = [2], open

    def stale(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*args, **kwargs)

    monkeypatch.setattr("builtins.open", stale)
    assert ledger.read_json(tmp_path / "a.json") == 1
    left[0] = 9
    with pytest.raises(OSError, match="Stale"):
        ledger.read_json(tmp_path / "a.json")
