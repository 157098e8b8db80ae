"""Doctor: versions, GPUs, limits of the process, clock."""

import json
import platform
import resource
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.finding import Finding, amount, broken, look, ok, one_line
from experiments.machine import Gpu, Load

ROOT = Path(__file__).parent.parent
NAMED = ("torch", "lightning", "optuna", "mlflow", "pydantic")
MALWARE = {("lightning", "2.6.2"), ("lightning", "2.6.3")}
INSTALL = "pip install -e . -c constraints.txt"
ANSWER_S, ASKED_S = 4.0, 30.0
# In a process of its own: its import takes a second, and with a sick driver it hangs.
ASK_TORCH = """
import json, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import torch
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"cuda": torch.version.cuda, "count": count, "said": [str(w.message) for w in said]}))
"""


def versions(root: Path = ROOT) -> Iterator[Finding]:
    """What is installed, against the project's ranges, and against its pins where they are at hand."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    python, asked = platform.python_version(), _python(root)
    good = SpecifierSet(asked).contains(python)
    yield ok(f"python {python}") if good else broken(f"python {python}, not {asked}", "make another venv")
    wanted, found, bad = [Requirement(line) for line in _ranges(root)], dict[str, str](), 0
    for one in (one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})):
        try:
            found[one.name] = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            bad += 1
            yield broken(f"{one.name} is not installed", INSTALL)
            continue
        if (one.name, found[one.name]) in MALWARE:
            bad += 1
            stolen = "uninstall it, and change every password and key that this machine has had since"
            yield broken(f"{one.name} {found[one.name]} is a release with malware", stolen)
        elif not one.specifier.contains(found[one.name], prereleases=True):
            bad += 1
            yield broken(f"{one.name} {found[one.name]}, not {one.specifier}", INSTALL)
    if not bad:
        named = ", ".join(f"{name} {found[name]}" for name in NAMED if name in found)
        yield ok(f"{named} and {len(found) - len(NAMED)} more packages are in their ranges")
    yield from _pins(root / "constraints.txt")


def _pins(file: Path) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    if not file.is_file():
        return
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line and not line.startswith("-")]
    other = []
    for pin in pins:
        try:
            found = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(found, prereleases=True):
            other.append(f"{pin.name} {found} ({pin.specifier})")
    if other:
        names = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")
        yield look(f"not as pinned: {names}", f"for the numbers of others: {INSTALL}")
    else:
        yield ok(f"all that is installed is as {file.name} pins it")


def _project(root: Path) -> dict[str, Any]:
    return dict(tomllib.loads((root / "pyproject.toml").read_text())["project"])


def _ranges(root: Path) -> list[str]:
    if (root / "pyproject.toml").is_file():
        return list(_project(root)["dependencies"])
    return metadata.requires("shapelex") or []


def _python(root: Path) -> str:
    if (root / "pyproject.toml").is_file():
        return str(_project(root)["requires-python"])
    return metadata.metadata("shapelex")["Requires-Python"]


class Devices:
    """GPUs, as torch and nvidia-smi see them. Both are asked at once, torch only where there may be one: they
    have ANSWER_S to answer, and ASKED_S where a GPU is to be run on."""

    def __init__(self, devices: list[str]) -> None:
        self.load, self.wanted = Load(), [int(name[5:]) for name in devices if name != "cpu"]
        self.load.look(0.0)
        self.until = time.monotonic() + (ASKED_S if self.wanted else ANSWER_S)
        self.torch: subprocess.Popen[str] | None = None
        if self.wanted or self.load.tool:
            self.torch = subprocess.Popen(
                [sys.executable, "-P", "-c", ASK_TORCH],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def findings(self) -> Iterator[Finding]:
        if self.torch is None:
            yield ok("no GPU, and none is asked for")
            return
        self.load.wait(max(0.1, self.until - time.monotonic()))
        if self.load.asked is not None:
            yield look("nvidia-smi does not answer", "a sick driver does so: dmesg")
        try:
            out, error = self.torch.communicate(timeout=max(0.1, self.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            yield look(
                "torch takes long to say whether it has CUDA", "try again; a sick driver does so: dmesg"
            )
            return
        if self.torch.returncode:
            last = (error.strip().splitlines() or ["no message"])[-1]
            yield broken(f"torch does not import: {last}", INSTALL)
            return
        yield from _cuda(json.loads(out.splitlines()[-1]), self.load.gpus, self.wanted)

    def close(self) -> None:
        self.load.close()
        if self.torch is not None:
            self.torch.kill()
            self.torch.communicate()


def _cuda(torch: dict[str, Any], gpus: list[Gpu], wanted: list[int]) -> Iterator[Finding]:
    for gpu in gpus:
        known = gpu.used_mib is not None and gpu.total_mib is not None
        free = (gpu.total_mib or 0) - (gpu.used_mib or 0)
        memory = f", {amount(free * 2**20)} of {amount((gpu.total_mib or 0) * 2**20)} free" if known else ""
        what = f"GPU {gpu.number} {gpu.name}, driver {gpu.driver}{memory}"
        taken = known and free < (gpu.total_mib or 0) / 2
        yield look(what, "nvidia-smi says whose processes hold it") if taken else ok(what)
    count, cuda = torch["count"], torch["cuda"]
    if missing := [f"cuda:{number}" for number in wanted if number >= count]:
        yield broken(f"{', '.join(missing)}: {_without(torch, gpus)}", _remedy(torch, gpus))
    elif count:
        yield ok(f"torch has CUDA {cuda} and sees {count} of {max(len(gpus), count)} GPUs")
    elif gpus:
        yield look(f"GPUs are here, but {_without(torch, gpus)}", _remedy(torch, gpus))
    else:
        yield ok("no GPU, and none is asked for")


def _without(torch: dict[str, Any], gpus: list[Gpu]) -> str:
    if torch["cuda"] is None:
        return "this torch is built for CPUs alone"
    if torch["count"]:
        return f"torch sees {torch['count']} GPUs"
    said = f": {' '.join(torch['said'][0].split())[:200]}" if torch["said"] else ""
    driver = f" with driver {gpus[0].driver}" if gpus else ""
    return f"torch (CUDA {torch['cuda']}) sees no GPU{driver}{said}"


def _remedy(torch: dict[str, Any], gpus: list[Gpu]) -> str:
    if not gpus:
        return "leave --devices out, or go where nvidia-smi lists a GPU"
    if torch["cuda"] is None:
        return "install the torch of the same version that is built for CUDA"
    return "a driver as new as torch's CUDA asks for, and look at CUDA_VISIBLE_DEVICES"


def limits() -> Iterator[Finding]:
    """Of this process, which its trials inherit."""
    short = False
    for name, what, least, how in (
        (resource.RLIMIT_NOFILE, "open files", 1024, "ulimit -n 4096"),
        (resource.RLIMIT_NPROC, "processes and threads", 512, "ulimit -u 4096"),
        (resource.RLIMIT_FSIZE, "bytes a file", 10 * 2**30, "ulimit -f unlimited"),
    ):
        soft = resource.getrlimit(name)[0]
        if soft != resource.RLIM_INFINITY and soft < least:
            short = True
            yield look(f"at most {soft} {what}", f"{how}, or ask the machine's administrator")
    room = _cgroup_room()
    if room is not None and room < 128:
        short = True
        yield look(f"this container may start {room} more threads", "raise its pids limit")
    if not short:
        yield ok("limits of open files, processes and sizes of files are wide enough")


def _cgroup_room() -> int | None:
    """Threads that the control group still allows; None where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / "pids.max").read_text()) - int((folder / "pids.current").read_text())
    except (OSError, ValueError):
        return None


def clock(folder: Path) -> Iterator[Finding]:
    """This machine's, against that of the file system of `folder`, which may be a server's."""
    probe = folder / f".clock.{time.time_ns():032x}"
    try:
        probe.touch()
        ahead = probe.stat().st_mtime - time.time()
    except OSError as error:
        yield look(f"the file system's clock could not be read: {one_line(error)}", "see above")
        return
    finally:
        with suppress(OSError):
            probe.unlink()
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time()))
    if time.time() < 1.7e9:
        yield look(f"the clock says {now}", "set it: times in results and MLflow would be wrong")
    elif abs(ahead) > 2:
        how = "ahead of" if ahead > 0 else "behind"
        yield look(f"the store's clock is {abs(ahead):.0f} s {how} this machine's", "synchronise them (NTP)")
    else:
        yield ok(f"clock {now}, the file system's agrees")
