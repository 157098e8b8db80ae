"""What `shapelex doctor` finds: each fault injected, and nothing where there is none."""

import fcntl
import http.server
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from typer.testing import CliRunner

from experiments import doctor_machine, doctor_nodes, doctor_records, doctor_store, lease
from experiments.cli import app
from experiments.finding import Finding
from experiments.ledger import Store

HERE = environment(PYTHONPATH=os.pathsep.join(sys.path))
CLI = [sys.executable, "-P", "-m", "experiments.cli", "doctor", "--store"]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def marks(found: Iterator[Finding]) -> list[str]:
    return [one.mark for one in found]


def bad(found: Iterator[Finding]) -> Finding:
    """The one finding that is not ok; it says what to do."""
    (one,) = [one for one in found if one.mark != "ok"]
    assert one.todo
    return one


def test_a_sound_machine_and_a_new_store_are_told_so_in_five_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = subprocess.run([*CLI, str(tmp_path / "runs")], env=HERE, capture_output=True, text=True, timeout=60)
    took, lines = time.monotonic() - began, ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert lines[-1].endswith(", 0 broken") and "is not there yet and can be made" in ran.stdout
    assert list(tmp_path.iterdir()) == []
    assert took < 5 or os.getloadavg()[0] > 1


def test_a_store_that_is_a_file_is_broken_and_the_status_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    for store in (tmp_path / "runs", tmp_path / "runs/below"):
        answer = CliRunner().invoke(app, ["doctor", "--store", str(store)])
        assert answer.exit_code == 1
        assert f"broken  {store} is no folder, or a file is in its way" in answer.output


def test_devices_that_are_none_are_refused() -> None:
    answer = CliRunner().invoke(app, ["doctor", "--devices", "gpu"])
    assert answer.exit_code == 2 and "expected cpu, or cuda:0,cuda:1,..." in answer.output


def test_a_file_where_the_store_has_a_folder_is_broken(tmp_path: Path) -> None:
    (tmp_path / "trials").symlink_to("nowhere")
    (tmp_path / "cache").touch()
    assert bad(doctor_store.place(tmp_path)).what == f"{tmp_path}: cache, trials should be a folder"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_not_be_written_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert bad(doctor_store.place(tmp_path)).mark == "broken"


def test_a_disk_that_takes_no_more_is_broken_in_one_line(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ran = subprocess.run(
        [*CLI, str(tmp_path)], env=HERE, capture_output=True, text=True, timeout=60, preexec_fn=limited
    )
    assert ran.returncode == 1, ran.stderr
    assert f"broken  writing to {tmp_path} fails: OSError: [Errno 27] File too large" in ran.stdout
    assert "look    at most 100000 bytes a file" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_room_is_measured_by_what_trials_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "model").write_bytes(os.urandom(2**20))
    for free, mark in ((2**40, "ok"), (2**26 + 2**25, "look"), (2**20, "broken")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("", (), {"free": free}))
        (found,) = doctor_store.room(tmp_path, tmp_path)
        assert found.mark == mark and f"a trial leaves 1.0 MiB, so room for {free // 2**20:,}" in found.what


def test_locks_that_lock_nobody_out_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "two processes held one lock" in bad(doctor_store.system(tmp_path)).what
    monkeypatch.setattr(doctor_store, "_had", lambda _: False)
    assert "a dead process's lock stays" in bad(doctor_store.system(tmp_path)).what


def test_a_rename_that_readers_see_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_store, "write_bytes", Path.write_bytes)
    assert "a rename over an open file" in bad(doctor_store.system(tmp_path)).what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mounts", "kind", "mark"),
    [
        ("/dev/a / ext4 rw 0 0\nserver:/x {here} nfs4 rw 0 0\n", "nfs4", "look"),
        ("host {here} fuse.sshfs rw 0 0\n", "fuse.sshfs", "look"),
        ("/dev/a / ext4 rw 0 0\nt {here} tmpfs rw 0 0\n", "tmpfs", "look"),
        ("/dev/a / ext4 rw 0 0\n/dev/b {here} nfs rw 0 0\n/dev/c {here} xfs rw 0 0\n", "xfs", "ok"),
        ("/dev/a / ext4 rw 0 0\ns {here}no nfs rw 0 0\n", "ext4", "ok"),
    ],
)
def test_the_file_system_is_named_and_a_networks_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, kind: str, mark: str
) -> None:
    here = tmp_path / "my runs"
    here.mkdir()
    text, read = mounts.format(here=str(here.resolve()).replace(" ", "\\040")), Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda p, *a: text if str(p) == "/proc/mounts" else read(p, *a))
    found = next(doctor_store.system(here))
    assert (found.mark, found.what.split()[0]) == (mark, kind)


def test_what_killed_processes_left_is_counted_where_it_lies_and_the_advice_finds_it(tmp_path: Path) -> None:
    left = [
        tmp_path / "trials/0/attempt-1" / f".result.json.{'a' * 32}",
        tmp_path / "sweeps/x" / f".plan.json.{'b' * 32}",
        tmp_path / "cache/windows" / f".0123.{'c' * 32}" / "series.npy",
    ]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("x")
    assert marks(doctor_store.leftovers(tmp_path)) == ["ok"]  # they may still be at work
    old = time.time() - 7200
    for path in (*left, left[2].parent):
        os.utime(path, (old, old))
    found = bad(doctor_store.leftovers(tmp_path))
    assert found.what.startswith("3 temporary files")
    subprocess.run(found.todo.partition(": ")[2], shell=True, check=True)
    assert marks(doctor_store.leftovers(tmp_path)) == ["ok"]


def project(folder: Path, dependencies: str, pins: str = "") -> Path:
    (folder / "pyproject.toml").write_text(
        f'[project]\nrequires-python = ">=3.11,<3.13"\ndependencies = [{dependencies}]\n'
    )
    if pins:
        (folder / "constraints.txt").write_text(pins)
    return folder


def test_versions_outside_their_ranges_and_malware_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(tmp_path, '"optuna>=5", "lightning>=2.6,!=2.6.2", "nosuchpackage"')
    right = metadata.version
    old = {"optuna": "4.9", "lightning": "2.6.2"}
    monkeypatch.setattr(metadata, "version", lambda name: old.get(name) or right(name))
    found = [one.what for one in doctor_machine.versions(root) if one.mark == "broken"]
    assert found == [
        "optuna 4.9, not >=5",
        "lightning 2.6.2 is a release with malware",
        "nosuchpackage is not installed",
    ]
    monkeypatch.setattr("platform.python_version", lambda: "3.10.1")
    assert next(doctor_machine.versions(root)).what.startswith("python 3.10.1, not ")


def test_what_is_not_as_pinned_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path, '"numpy"', "# pins\nnumpy==1.0  # old\nnosuchpackage==1\n--no-binary x\n")
    found = bad(doctor_machine.versions(root))
    assert found.mark == "look" and found.what.endswith(" (==1.0)")
    local = {"numpy": "1.0+cpu"}
    monkeypatch.setattr(metadata, "version", lambda name: local[name])
    project(tmp_path, '"numpy"', "numpy==1.0\n")
    assert set(marks(doctor_machine.versions(root))) == {"ok"}


def gpu(monkeypatch: pytest.MonkeyPatch, folder: Path, torch: str, smi: str = "") -> None:
    """What torch and nvidia-smi say."""
    monkeypatch.setattr(doctor_machine, "ASK_TORCH", torch)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{smi or 'exit 9'}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def devices(*names: str) -> list[Finding]:
    asked = doctor_machine.Devices(list(names))
    try:
        return list(asked.findings())
    finally:
        asked.close()


ONE = "echo '0, NVIDIA H100, 535.1, 0, 1024, 81920'"


@pytest.mark.parametrize(
    ("torch", "asked", "mark", "what"),
    [
        (
            {"cuda": "12.8", "count": 1, "said": []},
            "cuda:0",
            "ok",
            "torch has CUDA 12.8 and sees 1 of 1 GPUs",
        ),
        ({"cuda": None, "count": 0, "said": []}, "cuda:0", "broken", "cuda:0: this torch is built for CPUs"),
        ({"cuda": None, "count": 0, "said": []}, "cpu", "look", "GPUs are here, but this torch is built for"),
        ({"cuda": "12.8", "count": 1, "said": []}, "cuda:1", "broken", "cuda:1: torch sees 1 GPUs"),
        (
            {"cuda": "12.8", "count": 0, "said": ["The NVIDIA driver on your system is\ntoo old"]},
            "cuda:0",
            "broken",
            "cuda:0: torch (CUDA 12.8) sees no GPU with driver 535.1: The NVIDIA driver on your system is",
        ),
    ],
)
def test_torch_and_the_driver_are_held_against_what_is_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torch: dict[str, object],
    asked: str,
    mark: str,
    what: str,
) -> None:
    gpu(monkeypatch, tmp_path, f"import json; print(json.dumps({torch!r}))", ONE)
    card, found = devices(asked)
    assert card == Finding("ok", "GPU 0 NVIDIA H100, driver 535.1, 79 GiB of 80 GiB free")
    assert found.mark == mark and found.what.startswith(what) and bool(found.todo) == (mark != "ok")


def test_a_gpu_that_others_fill_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(
        monkeypatch,
        tmp_path,
        'print(\'{"cuda": "12", "count": 1, "said": []}\')',
        ONE.replace("1024", "61440"),
    )
    assert [one.mark for one in devices("cuda:0")] == ["look", "ok"]


def test_a_sick_driver_holds_doctor_up_no_longer_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_machine, "ANSWER_S", 0.5)
    gpu(monkeypatch, tmp_path, "import time; time.sleep(60)", "exec sleep 60")
    began = time.monotonic()
    assert [one.what.split()[0] for one in devices("cpu")] == ["nvidia-smi", "torch"]
    assert time.monotonic() - began < 5


def test_a_torch_that_does_not_import_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, tmp_path, "raise ImportError('libcudart.so')")
    assert [one.what for one in devices("cpu")] == ["torch does not import: ImportError: libcudart.so"]


def test_the_real_torch_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = devices("cuda:99")
    assert found[-1].mark == "broken" and found[-1].what.startswith("cuda:99: ")


def test_narrow_limits_are_looked_at() -> None:
    code = "from experiments.doctor_machine import limits; print([f.what for f in limits()])"
    narrow = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    ran = subprocess.run([sys.executable, "-c", narrow + code], env=HERE, capture_output=True, text=True)
    assert ran.stdout.startswith("['at most 64 open files'"), ran.stderr
    assert marks(doctor_machine.limits()) == ["ok"]


def test_a_store_whose_clock_differs_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert marks(doctor_machine.clock(tmp_path)) == ["ok"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 90)
    assert bad(doctor_machine.clock(tmp_path)).what == "the store's clock is 90 s behind this machine's"
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert "1970" in bad(doctor_machine.clock(tmp_path)).what


def test_leases_say_who_holds_them_and_which_are_stale(tmp_path: Path) -> None:
    store = Store(tmp_path)
    held = lease.claim(store.trial("0" * 16))
    assert [one.what for one in doctor_records.leases(store)] == [
        f"process {os.getpid()} on {held_by(held)} runs 1 trial"
    ]
    held.release()
    assert [one.what for one in doctor_records.leases(store)] == ["nobody runs a trial of this store"]
    code = (
        "import sys; from pathlib import Path; from experiments import lease; lease.claim(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(store.trial("1" * 16))], env=HERE, check=True)
    assert bad(doctor_records.leases(store)).what == "1 trials of dead processes"


def held_by(held: lease.Lease) -> str:
    found = lease.holder(held.trial)
    assert found is not None
    return found.host


def test_another_machines_lease_is_told_by_its_heart_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    held = lease.claim(store.trial("0" * 16))
    monkeypatch.setattr(lease, "machine", lambda: "another")
    assert marks(doctor_records.leases(store)) == ["ok"]
    held._over.set()
    old = time.time() - 300
    os.utime(held.folder / "lease.json", (old, old))
    assert "its heart last beat 300 s ago" in bad(doctor_records.leases(store)).what


@pytest.mark.parametrize(
    ("check", "file", "table"),
    [(doctor_records.mlflow, "mlflow.db", "experiments"), (doctor_records.optuna, "optuna.db", "studies")],
)
def test_databases_that_are_broken_are_found(tmp_path: Path, check: object, file: str, table: str) -> None:
    assert callable(check)
    assert marks(check(tmp_path)) == ["ok"] and not (tmp_path / file).exists()
    path = tmp_path / file
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE other (x)")
    assert "lacks its tables" in bad(check(tmp_path)).what
    with sqlite3.connect(path) as made:
        made.execute(f"CREATE TABLE {table} (x)")
        made.executemany(f"INSERT INTO {table} VALUES (?)", [("word " * 99,)] * 999)
    assert marks(check(tmp_path)) == ["ok"]
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    found = bad(check(tmp_path))
    assert found.mark == "look" and found.what.endswith("is locked")
    lock.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * 9000 + whole[len(whole) // 2 + 9000 :])
    assert bad(check(tmp_path)).mark == "broken"
    path.write_bytes(b"no database at all " * 999)
    found = bad(check(tmp_path))
    assert found.mark == "broken" and found.todo.startswith("move it away")
    assert path.read_bytes() == b"no database at all " * 999


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """An address, and the status that it answers with."""
    status = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/sub/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://me:secret-word@127.0.0.1:{served.server_port}/sub/", status
        served.shutdown()


def test_a_server_is_asked_for_its_health_and_no_password_is_told(
    server: tuple[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, status = server
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for code, mark in ((200, "ok"), (401, "ok"), (500, "broken")):
        status[0] = code
        (found,) = doctor_records.mlflow(tmp_path)
        assert found.mark == mark and "secret-word" not in str(found), found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret-word@127.0.0.1:9")
    (found,) = doctor_records.mlflow(tmp_path)
    assert found.mark == "broken" and "secret-word" not in str(found)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret-word@host/db")
    (found,) = doctor_records.mlflow(tmp_path)
    assert found.mark == "look" and "secret-word" not in str(found)


def test_cached_files_that_are_not_whole_are_broken(tmp_path: Path) -> None:
    assert marks(doctor_records.caches(tmp_path)) == ["ok"]
    folder = tmp_path / "windows" / "0123"
    folder.mkdir(parents=True)
    np.save(folder / "series.npy", np.zeros((100, 6, 50), np.float32))
    np.save(folder / "empty.npy", np.zeros((0, 3), np.int64))
    (tmp_path / "digests.json").write_text("{}")
    assert [one.what for one in doctor_records.caches(tmp_path)] == ["3 cached files can be read"]
    whole = (folder / "series.npy").read_bytes()
    for torn in (whole[:-100], whole[:50], b""):
        (folder / "series.npy").write_bytes(torn)
        assert "series.npy: " in bad(doctor_records.caches(tmp_path)).what
    (folder / "series.npy").write_bytes(whole)
    (tmp_path / "digests.json").write_text('{"a"')
    assert "digests.json: " in bad(doctor_records.caches(tmp_path)).what


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Iterator[Finding]:
        raise RuntimeError("odd\nthing")

    monkeypatch.setattr(doctor_store, "room", failing)
    answer = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path)])
    assert (
        answer.exit_code == 1
        and "broken  disk could not be looked at: RuntimeError: odd thing" in answer.output
    )
    assert answer.output.splitlines()[-1].endswith("1 broken")


@pytest.mark.parametrize(
    ("kind", "options", "mark", "words"),
    [
        ("nfs4", "rw,hard,acregmin=10,acregmax=10,acdirmin=10,acdirmax=10", "look", "SQLite on it is unsafe"),
        ("nfs4", "rw,hard", "look", "up to 60 s late"),
        ("nfs4", "rw,hard,acregmax=10", "look", "up to 60 s late"),
        ("nfs", "rw,nolock", "broken", "do not reach others (nolock)"),
        ("nfs", "rw,local_lock=flock", "broken", "do not reach others (local_lock=flock)"),
        ("lustre", "rw,localflock", "broken", "do not reach others (localflock)"),
    ],
)
def test_a_shared_folder_is_judged_by_how_it_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, mark: str, words: str
) -> None:
    monkeypatch.setattr(doctor_store, "_mount", lambda folder: (kind, "/shared", options.split(",")))
    found = [one for one in doctor_store.system(tmp_path) if one.mark != "ok"]
    assert found[-1].mark == mark and found[-1].todo and words in found[-1].what + found[-1].todo
    assert ("broken" in [one.mark for one in found]) == (mark == "broken")


def test_the_options_of_a_mount_are_read_where_the_kernel_lists_them() -> None:
    kind, at, options = doctor_store._mount(Path("/proc"))
    assert (kind, at) == ("proc", "/proc") and "rw" in options


def test_the_machines_of_a_cluster_are_asked_by_a_task_that_runs_there(tmp_path: Path) -> None:
    command = ["doctor", "--store", str(tmp_path / "runs"), "--executor", "slurm", "--cluster", "local=true"]
    ran = CliRunner().invoke(app, [*command, "--workers", "2"])
    assert f"of the cluster's machines answered: {socket.gethostname()}" in ran.output
    assert not list((tmp_path / "runs").glob(".doctor*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token": "another's"}, "does not see what is written here"),
        ({"locked": False}, "gets a lock that this machine holds"),
        ({"device": "RuntimeError: no CUDA"}, "can't train: RuntimeError: no CUDA"),
        ({"versions": {"torch": "1.0"}}, "other versions than this machine: torch 1.0"),
    ],
)
def test_a_machine_that_is_not_fit_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    told = {"host": "node7", "token": tmp_path.name, "locked": True, "device": None, "versions": {}}
    (tmp_path / "a.json").write_text(json.dumps(told | change))
    found = bad(doctor_nodes._judged(tmp_path))
    assert found.what.startswith("node7") and words in found.what
