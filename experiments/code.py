"""The code's identity: what made a trial's numbers, in a form from which it can be had again.

Git is asked by plumbing, and is let run nothing that a repository names: no hook, pager, external diff, text
conversion, file-system monitor, filter or transport. A filter of the repository's own configuration is off,
so that a touched file behind one counts as changed.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.ledger import write_bytes

ROOT = Path(__file__).parent.parent
SOURCES = ("model", "experiments")
LIMIT_BYTES = 5_000_000
TIME_S = 30.0  # for one question to git
OF_THE_USER = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES")
INERT = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "diff.suppressBlankEmpty": "false",
}
DIFF = (
    "diff-index", "-p", "--binary", "--full-index", "--no-renames", "--no-color",
    "--no-ext-diff", "--no-textconv", "--submodule=short", "--ignore-submodules=untracked",
)  # fmt: skip

ORIGIN = ("commit", "dirty")  # of a result's environment: the same sources may come from two


class Code(NamedTuple):
    """hash: of the sources that make numbers. commit: None outside a checkout, or before its first commit.
    dirty: whether what ran is in no commit, None where git doesn't say. patch: from the commit (or from
    nothing) to what ran, for `git apply` in the checkout's top folder; lines with # say what it lacks."""

    hash: str
    commit: str | None
    dirty: bool | None
    patch: bytes


class Unanswered(OSError):
    """Git is missing, too slow, or refused; one line says which."""


class TooLarge(Unanswered):
    """The answer has more than LIMIT_BYTES."""


def identity(root: Path = ROOT) -> Code:
    """Of the sources under `root`. Reads them all and asks git: once a launch. Git can fail, this can't."""
    of_sources, commit = source_hash(root), None
    try:
        git = _Git(root)
        git.ask(
            "ls-files", "--error-unmatch", "--", *SOURCES
        )  # else a repository that merely lies around them
    except OSError:
        return Code(of_sources, None, None, b"")
    try:
        with contextlib.suppress(Unanswered):  # before the first commit
            commit = git.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
        patch = git.patch(commit or git.ask("hash-object", "-t", "tree", "--stdin").decode().strip())
        return Code(of_sources, commit, bool(patch) or commit is None, patch)
    except OSError as reason:  # beside git's, a file that went while git read
        return Code(of_sources, commit, None, f"# no diff: {reason}\n".encode())


def source_hash(root: Path = ROOT) -> str:
    """12 hex digits over the sources that make a trial's numbers: `model/` and `experiments/`."""
    total = hashlib.sha256()
    for path in sorted(path for top in SOURCES for path in root.glob(f"{top}/**/*.py")):
        total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()[:12]


def keep(store: Path, code: Code) -> Path | None:
    """The patch as `<store>/code/<hash>.patch`, written once however many trials share it; None if empty."""
    if not code.patch:
        return None
    path = store / "code" / f"{hashlib.sha256(code.patch).hexdigest()[:16]}.patch"
    if not path.exists():
        write_bytes(path, code.patch)
    return path


def lay(kept: Path | None, folder: Path) -> None:
    """What `keep` gave, as `code.patch` in a trial's folder, which then outlives the store's copy."""
    target = folder / "code.patch"
    target.unlink(missing_ok=True)
    if kept is not None:
        try:
            os.link(kept, target)
        except OSError:  # a file system without links, or with no more of them
            shutil.copyfile(kept, target)


class _Git:
    """Questions to git in `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.settings = root, dict(INERT)
        # Exit status 1: no such setting.
        told = self._run(["config", "-z", "--show-scope", "--get-regexp", r"^filter\."], b"", {})[1]
        fields = told.decode(errors="surrogateescape").split("\0")
        for scope, entry in zip(fields[::2], fields[1::2], strict=False):
            name = entry.split("\n", 1)[0]
            if scope not in ("global", "system"):
                self.settings[name] = "false" if name.endswith(".required") else ""

    def ask(self, *question: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        status, answer = self._run(question, stdin, env or {})
        if len(answer) > LIMIT_BYTES:
            raise TooLarge(f"git {question[0]} said more than {LIMIT_BYTES} bytes")
        if status:
            raise Unanswered(f"git {question[0]} failed")
        return answer

    def _run(self, question: Sequence[str], stdin: bytes, env: dict[str, str]) -> tuple[int, bytes]:
        """Exit status, and what was said: at most LIMIT_BYTES + 1."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in OF_THE_USER}
        mine |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none"}
        mine["GIT_CONFIG_COUNT"] = str(len(self.settings))
        for i, (name, value) in enumerate(self.settings.items()):
            mine |= {f"GIT_CONFIG_KEY_{i}": name, f"GIT_CONFIG_VALUE_{i}": value}
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    ["git", *question],
                    cwd=self.root,
                    env=mine | env,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unanswered(f"git: {error.strerror}") from None
            late = threading.Event()

            def stop() -> None:
                late.set()
                os.killpg(process.pid, signal.SIGKILL)

            clock = threading.Timer(TIME_S, stop)
            clock.start()
            assert process.stdout is not None
            try:
                answer = process.stdout.read(LIMIT_BYTES + 1)
                if len(answer) <= LIMIT_BYTES:
                    process.wait()
            finally:
                clock.cancel()
                process.stdout.close()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if late.is_set():
            raise Unanswered(f"git {question[0]} took more than {TIME_S:g} s")
        return process.returncode, answer

    def patch(self, tree: str) -> bytes:
        """From `tree` to the working tree: everything tracked, and what is new in SOURCES and not ignored."""
        new = self.ask(
            "ls-files", "-z", "--others", "--exclude-standard", "--exclude=__pycache__", "--", *SOURCES
        ).decode(errors="surrogateescape")
        names = [name for name in new.split("\0") if name and not name.endswith("/")]
        large = [name for name in names if os.lstat(self.root / name).st_size > LIMIT_BYTES]
        head = "".join(f"# without {name!r}: more than {LIMIT_BYTES} bytes\n" for name in large).encode()
        with tempfile.TemporaryDirectory() as folder:
            env = self._index([name for name in names if name not in large], Path(folder) / "index")
            try:
                return head + self.ask(*DIFF, tree, "--", env=env)
            except TooLarge as reason:
                head += f"# of {' and '.join(SOURCES)} alone; of everything: {reason}\n".encode()
            try:
                return head + self.ask(*DIFF, tree, "--", *SOURCES, env=env)
            except TooLarge as reason:
                return head + f"# no diff: {reason}\n".encode()

    def _index(self, new: list[str], file: Path) -> dict[str, str]:
        """An environment in which `new` counts as added: by a copy of the index, git's own stays as it is."""
        if not new:
            return {}
        name = self.ask("rev-parse", "--git-path", "index").decode(errors="surrogateescape")
        with contextlib.suppress(FileNotFoundError):
            # With its time, by which git knows entries that changed while it was written.
            shutil.copy2(self.root / name.removesuffix("\n"), file)
        prefix = self.ask("rev-parse", "--show-prefix").decode(errors="surrogateescape").removesuffix("\n")
        nothing = self.ask("hash-object", "--stdin").decode().strip()
        entries = "".join(f"100644 {nothing}\t{prefix}{name}\0" for name in new)
        env = {"GIT_INDEX_FILE": str(file)}
        self.ask(
            "update-index", "-z", "--index-info", stdin=entries.encode(errors="surrogateescape"), env=env
        )
        return env
