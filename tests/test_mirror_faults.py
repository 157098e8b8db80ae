"""What breaks the mirror, done to it: after one more `sync` MLflow shows what it would have without."""

import os
import resource
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from mirror_fixture import (
    BAD,
    ERROR,
    ONE,
    PLAN,
    TWO,
    Server,
    empty,
    grow,
    plan_of,
    result_of,
    runs,
    shown,
    store,
    tables,
    undisturbed,
    worker,
    write_trial,
)

from experiments import background, database, lease, track

__all__ = ["empty", "store"]  # fixtures


def nudged(mirror: background.BackgroundMirror) -> float:
    """Seconds that a nudge took."""
    started = time.monotonic()
    mirror.nudge()
    return time.monotonic() - started


def until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def test_a_server_that_is_down_at_first_and_killed_later_loses_nothing(
    empty: Path, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    server, waits = Server(tmp_path_factory.mktemp("server")), []
    monkeypatch.setattr(background, "EVERY_S", 0.1)
    monkeypatch.setattr(background, "IDLE_S", 0.2)
    monkeypatch.setattr(background, "SHARE", 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    mirror = background.BackgroundMirror(track.Mirror(empty, PLAN))
    write_trial(empty, ONE)
    waits.append(nudged(mirror))
    until(lambda: mirror._problem)
    server.start()
    try:
        until(lambda: not track.pending(empty, PLAN))
        work = lease.claim(empty / "trials" / TWO)
        grow(work, 2)
        until(lambda: "z_one_way s1" in runs(empty))
        server.kill()
        grow(work, 3)
        waits.append(nudged(mirror))
        until(lambda: mirror._problem)
        work.accept(result_of(TWO))
        waits.append(nudged(mirror))
        assert "Nothing is lost" in (mirror.close(timeout_s=30) or "")
        write_trial(empty, BAD, status="failed", error=ERROR, metrics={}, cost={}, data={})
        assert max(waits) < 0.05 and len(track.pending(empty, PLAN)) == 2
        server.start()
        assert [track.Mirror(empty, PLAN).sync() for _ in range(2)] == [2, 0]
        assert shown(empty) == undisturbed(empty)
    finally:
        server.kill()


def test_a_database_that_stays_locked_holds_nobody_up(store: Path, monkeypatch: Any) -> None:
    import sqlalchemy

    def hurry(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: Any) -> Any:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 200"), parameters

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", hurry, retval=True)
    mirror = track.Mirror(store, PLAN)
    mirror.sync()
    write_trial(store, BAD, finished_at="2026-11-22T08:00:00Z")
    other = sqlite3.connect(store / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        thread = background.BackgroundMirror(mirror)
        assert nudged(thread) < 0.05
        assert "locked" in (thread.close(timeout_s=60) or "")
        other.rollback()
        assert track.Mirror(store, PLAN).sync() == 1 and shown(store) == undisturbed(store)
    finally:
        other.close()
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", hurry)


@pytest.mark.parametrize("room", [-1000, 0, 8192, 65536])
def test_a_full_disk_is_told_in_a_line_and_is_caught_up_with(store: Path, room: int) -> None:
    size = (store / "mlflow.db").stat().st_size
    write_trial(store, ONE, epochs=500)
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, size + room))
        try:
            track.Mirror(store, PLAN).sync()
        except track.MirrorError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        message = told.read()
    assert "Nothing is lost" in message and "\n" not in message
    assert track.Mirror(store, PLAN).sync() > 0 and shown(store) == undisturbed(store)


def migrated(address: str) -> None:
    Path(address.removeprefix("sqlite:///")).write_bytes(tables())


@pytest.mark.parametrize("damage", ["no database", "nothing", "a torn page", "deleted", "swapped"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_broken_database_is_put_aside_and_built_anew(
    store: Path, damage: str, when: str, monkeypatch: Any
) -> None:
    create = database.create
    monkeypatch.setattr(database, "create", lambda file, _: create(file, migrated))
    mirror, file = track.Mirror(store, PLAN), store / "mlflow.db"
    fresh = file.read_bytes()
    mirror.sync()
    match damage:
        case "no database":
            file.write_bytes(b"this is not a database" * 1000)
        case "nothing":
            file.write_bytes(b"")
        case "a torn page":
            file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
        case "deleted":
            file.unlink()
        case "swapped":
            file.rename(store / "elsewhere.db")
            file.write_bytes(fresh)
    (store / "mlflow.db-journal").write_bytes(b"left behind")
    write_trial(store, BAD, finished_at="2026-11-22T08:00:00Z")
    mirror = mirror if when == "meanwhile" else track.Mirror(store, PLAN)
    assert mirror.sync() == 3 and shown(store) == undisturbed(store)
    put_aside = damage in ("no database", "a torn page")
    assert len(list(store.glob("mlflow.db.broken-*[0-9]"))) == len(mirror.notes) == put_aside


@pytest.mark.parametrize("content", [b"", b'{"schema": 2, "view"', b"[]", b"null", b"\xff\xfe"])
def test_torn_notes_of_ours_double_no_run(store: Path, content: bytes) -> None:
    track.Mirror(store, PLAN).sync()
    before = shown(store)
    for name in ("store.json", "sweeps/quick/mirrored.json"):
        (store / name).write_bytes(content)
    assert len(track.pending(store, PLAN)) == 3
    assert track.Mirror(store, PLAN).sync() == 0
    assert shown(store) == before and track.pending(store, PLAN) == []


def test_killed_at_any_statement_the_next_process_goes_on(store: Path) -> None:
    """Of a chain of processes each is killed later in its work than the one before; the ledger goes on."""
    import sqlalchemy

    cells = [(f"row{i}", seed, 0, s) for i in range(2) for seed, s in enumerate((ONE, TWO, BAD))]
    plan, deaths = plan_of(*cells), 0
    (store / "trials" / TWO / "result.json").unlink()
    first = worker(store, TWO, epochs=2)
    for kill_at in [*range(1, 122, 4), None]:
        if not (pid := os.fork()):
            left = [kill_at]

            def count(*_: Any, left: list[Any] = left) -> None:
                left[0] = left[0] and left[0] - 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            if kill_at is not None:
                sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
            track.Mirror(store, plan).sync()
            os._exit(0)
        deaths += os.waitpid(pid, 0)[1] == signal.SIGKILL
        if kill_at == 41:
            first.kill()
            first.wait()
        elif kill_at == 81:
            work = lease.claim(store / "trials" / TWO)
            grow(work, 3, time_s=0.8)
            work.accept(result_of(TWO))
    assert deaths > 20
    assert track.Mirror(store, plan).sync() == 0 and shown(store) == undisturbed(store, plan)
