"""Doctor: whether a cluster's machines can run trials on the store; a task that runs there tells."""

import fcntl
import json
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.code import source_hash
from experiments.doctor_store import MOUNT
from experiments.execute import UNFIT, Executor, Job, Task
from experiments.finding import Finding, broken, look, ok, one_line
from experiments.ledger import read_json, write_json
from experiments.node import Unfit

ASKED = 8  # slots, where nobody says how many
WAIT_S = 600.0


def answer(jobs: list[Job], own_process: bool) -> str | None:
    """On a machine of the cluster: what it sees of the probe that the doctor holds a lock on, and whether it
    has the device. It has imported all that a trial imports by now."""
    import torch

    (job,) = jobs
    probe, error = Path(job.config["probe"]), None
    try:
        torch.zeros(1, device=job.device)
    except Exception as problem:
        error = one_line(problem)
    with (probe / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = False
        except BlockingIOError:
            locked = True
    told = {
        "host": socket.gethostname(),
        "token": read_json(probe / "token"),
        "locked": locked,
        "device": error,
        "versions": _versions(),
    }
    write_json(probe / f"{uuid.uuid4().hex}.json", told)
    return None


def nodes(store: Path, make: Callable[[], Executor], workers: int | None) -> Iterator[Finding]:
    """Ask as many slots as there are, at most `workers`, and judge what they say."""
    probe = store.absolute() / f".doctor.{uuid.uuid4().hex}"
    probe.mkdir(parents=True)
    try:
        with (probe / "lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            write_json(probe / "token", probe.name)
            yield from _asked(probe, make, workers or ASKED)
        yield from _judged(probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _asked(probe: Path, make: Callable[[], Executor], most: int) -> Iterator[Finding]:
    try:
        executor = make()
    except Unfit as error:
        yield broken(str(error), "see --cluster in `shapelex run --help`")
        return
    left, until = 0, time.monotonic() + WAIT_S
    try:
        for slot in executor.free[:most]:
            code, config = source_hash(), {"probe": str(probe)}
            job = Job("0" * 16, config, {}, str(probe.parent), slot, code, time.time())
            executor.start(Task("look", [job], probe / "log"))
            left += 1
        while left and time.monotonic() < until:
            for _, how in executor.poll(0.5):
                left -= 1
                if how is not None:
                    yield broken(
                        f"a task there failed: {how.removeprefix(UNFIT)}{_last(probe)}", "as it says"
                    )
        if left:
            todo = "wait until it has room, or ask it for less"
            yield look(f"{left} slots of the cluster did not answer in {WAIT_S:.0f} s", todo)
    except Unfit as error:
        yield broken(str(error), "the same ShapeLex and the same store on all machines")
    finally:
        executor.close()


def _last(probe: Path) -> str:
    """Of what tasks printed, the last line."""
    with suppress(OSError, IndexError):
        return f": {(probe / 'log').read_text().strip().splitlines()[-1]}"
    return ""


def _versions() -> dict[str, str | None]:
    from experiments.environment import VERSIONS

    return {"torch": metadata.version("torch"), **VERSIONS}


def _judged(probe: Path) -> Iterator[Finding]:
    told: dict[str, dict[str, Any]] = {}
    mine = _versions()
    for path in sorted(probe.glob("*.json")):
        said = json.loads(path.read_text())
        told[said["host"]] = said
    for host, said in told.items():
        if said["token"] != probe.name:
            yield broken(f"{host} does not see what is written here", "a store that all machines share")
        elif not said["locked"]:
            yield broken(f"{host} gets a lock that this machine holds: a trial could run twice", MOUNT)
        elif said["device"]:
            yield broken(f"{host} can't train: {said['device']}", "its driver, or its build of torch")
        other = {name: version for name, version in said["versions"].items() if version != mine.get(name)}
        if other:
            names = ", ".join(f"{name} {version}" for name, version in other.items())
            yield look(
                f"{host} has other versions than this machine: {names}", "the same constraints.txt on all"
            )
    if told:
        yield ok(f"of the cluster's machines answered: {', '.join(told)}")
    else:
        yield look("no machine of the cluster answered", "see above")
