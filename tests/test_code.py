"""The code's identity, by real git repositories, some of them hostile."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import code

ME = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *command: str) -> str:
    ran = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *command],
        cwd=folder, env=os.environ | ME, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.strip()


def sources(root: Path) -> Path:
    for name in code.SOURCES:
        (root / name).mkdir(parents=True)
        (root / name / "a.py").write_text("one = 1\n")
    return root


def commit(root: Path) -> str:
    git(root, "add", "--all", ".")
    git(root, "commit", "--quiet", "-m", "all")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = sources(tmp_path / "checkout")
    git(root, "init", "--quiet")
    (root / "README.md").write_text("read me\n")
    (root / ".gitignore").write_text("*.log\n")
    commit(root)
    return root


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file outside .git."""
    names = [p for p in sorted(root.rglob("*")) if ".git" not in p.parts and (p.is_symlink() or p.is_file())]
    return {
        str(p.relative_to(root)): (
            p.lstat().st_mode,
            os.readlink(p).encode() if p.is_symlink() else p.read_bytes(),
        )
        for p in names
    }


def rebuilt(root: Path, found: code.Code, at: Path) -> dict[str, tuple[int, bytes]]:
    """What commit and patch give in a fresh clone."""
    git(root.parent, "clone", "--quiet", str(root), str(at))
    git(at, "checkout", "--quiet", "--detach", str(found.commit))
    (at.parent / "kept.patch").write_bytes(found.patch)
    git(at, "apply", str(at.parent / "kept.patch"))
    return files(at)


def test_the_hash_is_of_the_sources_in_their_order_and_of_nothing_else(checkout: Path) -> None:
    total = hashlib.sha256(b"experiments/a.pyone = 1\nmodel/a.pyone = 1\n").hexdigest()
    assert code.identity(checkout).hash == total[:12]
    (checkout / "README.md").write_text("other\n")
    assert code.identity(checkout).hash == total[:12]
    (checkout / "model/a.py").write_text("one = 2\n")
    assert code.identity(checkout).hash != total[:12]


def test_a_clean_checkout_is_its_commit_and_no_patch(checkout: Path) -> None:
    (checkout / "model/train.log").write_text("ignored\n")
    (checkout / "model/__pycache__").mkdir()
    (checkout / "model/__pycache__/a.pyc").write_bytes(b"compiled")
    (checkout / "notes.txt").write_text("new, but not a source\n")
    os.utime(checkout / "model/a.py", (1, 1))  # touched, not changed
    found = code.identity(checkout)
    assert found[1:] == (git(checkout, "rev-parse", "HEAD"), False, b"")


def test_commit_and_patch_give_back_what_ran(checkout: Path, tmp_path: Path) -> None:
    (checkout / "model/gone.py").write_text("gone = 1\n")
    (checkout / "model/data.bin").write_bytes(bytes(range(256)))
    commit(checkout)
    (checkout / "model/gone.py").unlink()
    (checkout / "model/data.bin").write_bytes(bytes(range(255, -1, -1)))
    (checkout / "README.md").write_text("tracked, so it counts\n")
    (checkout / "experiments/a.py").write_text("staged = 1\n")
    git(checkout, "add", "experiments/a.py")
    (checkout / "experiments/a.py").write_text("staged = 2\n")
    (checkout / "model/new\nline é.py").write_text("x = 1\n")
    (checkout / "model/last line without end.py").write_text("x = 1")
    (checkout / "model/new.bin").write_bytes(b"\0\xff" * 300)
    (checkout / "model/empty.py").write_text("")
    (checkout / "model/run.py").write_text("x = 1\n")
    (checkout / "model/run.py").chmod(0o755)
    (checkout / "model/link.py").symlink_to("a.py")
    index = (checkout / ".git/index").read_bytes()
    found = code.identity(checkout)
    assert found.dirty
    assert (checkout / ".git/index").read_bytes() == index
    assert rebuilt(checkout, found, tmp_path / "again") == files(checkout)
    assert code.identity(checkout) == found


def test_a_file_that_changed_in_the_instant_it_was_committed_has_its_change(checkout: Path) -> None:
    file, now = checkout / "model/a.py", 1_700_000_000
    git(checkout, "config", "core.checkStat", "minimal")
    git(checkout, "config", "core.trustctime", "false")
    file.write_text("one = 2\n")
    os.utime(file, (now, now))
    commit(checkout)
    file.write_text("one = 3\n")  # of the same size
    (checkout / "model/new.py").write_text("x = 1\n")
    os.utime(file, (now, now))
    os.utime(checkout / ".git/index", (now, now))
    assert b"+one = 3\n" in code.identity(checkout).patch


def test_a_detached_head_is_a_commit_like_any_other(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    (checkout / "model/a.py").write_text("two = 2\n")
    commit(checkout)
    git(checkout, "checkout", "--quiet", "--detach", first)
    assert code.identity(checkout)[1:] == (first, False, b"")


def test_before_the_first_commit_the_patch_is_from_nothing(tmp_path: Path) -> None:
    root = sources(tmp_path / "new")
    git(root, "init", "--quiet")
    assert code.identity(root)[1:] == (None, None, b"")
    git(root, "add", "--all")
    found = code.identity(root)
    assert (found.commit, found.dirty) == (None, True)
    again = tmp_path / "again"
    again.mkdir()
    subprocess.run(["git", "apply", "-"], cwd=again, input=found.patch, check=True)
    assert files(again) == files(root)


def test_outside_a_checkout_there_is_the_hash_alone(tmp_path: Path, checkout: Path) -> None:
    bare = sources(tmp_path / "installed")
    assert code.identity(bare)[1:] == (None, None, b"")
    inside = sources(checkout / ".venv/site-packages")  # untracked in a repository around it
    assert code.identity(inside)[1:] == (None, None, b"")
    assert code.identity(inside).hash == code.identity(bare).hash == code.identity(checkout).hash


def test_a_folder_of_a_larger_repository_is_of_its_commit(checkout: Path, tmp_path: Path) -> None:
    inner = sources(checkout / "packages/shapelex")
    head = commit(checkout)
    assert code.identity(inner)[1:] == (head, False, b"")
    (inner / "model/a.py").write_text("changed = 1\n")
    (inner / "model/new.py").write_text("new = 1\n")
    (checkout / "model/untracked.py").write_text("another's\n")
    found = code.identity(inner)
    (checkout / "model/untracked.py").unlink()
    assert rebuilt(checkout, found, tmp_path / "again") == files(checkout)


def test_a_submodule_counts_by_its_commit_and_its_changes(checkout: Path, tmp_path: Path) -> None:
    other = sources(tmp_path / "other")
    git(other, "init", "--quiet")
    commit(other)
    git(checkout, "submodule", "--quiet", "add", str(other), "model/part")
    head = commit(checkout)
    assert code.identity(checkout)[1:] == (head, False, b"")
    (checkout / "model/part/model/a.py").write_text("changed = 1\n")
    found = code.identity(checkout)
    assert found.dirty and b"-dirty\n" in found.patch
    inner = commit(checkout / "model/part")
    assert f"+Subproject commit {inner}\n".encode() in code.identity(checkout).patch


def test_nothing_that_a_repository_names_is_run(checkout: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    spy.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
        shutil.copy(spy, hooks / name)
    (checkout / ".gitattributes").write_text("*.py diff=spy filter=spy\n")
    head = commit(checkout)
    for name, value in {
        "core.fsmonitor": spy, "core.hooksPath": hooks, "core.pager": spy, "pager.diff-index": spy,
        "diff.external": spy, "diff.spy.command": spy, "diff.spy.textconv": spy, "filter.spy.clean": spy,
        "filter.spy.process": spy, "filter.spy.required": "true",
    }.items():  # fmt: skip
        git(checkout, "config", name, str(value))
    (checkout / "model/a.py").write_text("changed = 1\n")
    (checkout / "model/new.py").write_text("new = 1\n")
    ran.unlink(missing_ok=True)
    found = code.identity(checkout)
    assert not ran.exists()
    assert (found.commit, found.dirty) == (head, True)
    assert b"+changed = 1\n" in found.patch and b"+new = 1\n" in found.patch
    subprocess.run(["git", "diff"], cwd=checkout, capture_output=True)
    assert ran.exists()  # the spy does see what is run


def test_the_surroundings_of_a_git_command_do_not_lead_elsewhere(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = code.identity(checkout)
    other = sources(tmp_path / "other")
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as within a hook
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert code.identity(checkout) == expected


def test_a_diff_that_is_too_large_is_cut_to_the_sources_and_says_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "LIMIT_BYTES", 2000)
    (checkout / "README.md").write_text("x\n" * 2000)
    (checkout / "model/a.py").write_text("changed = 1\n")
    (checkout / "model/large.csv").write_text("1,2\n" * 2000)
    found = code.identity(checkout)
    first, second, _ = found.patch.decode().split("\n", 2)
    assert first == "# without 'model/large.csv': more than 2000 bytes"
    assert second.startswith("# of model and experiments alone") and "more than 2000 bytes" in second
    assert b"+changed = 1\n" in found.patch and b"README" not in found.patch
    assert found.dirty
    subprocess.run(["git", "apply", "--check", "-R", "-"], cwd=checkout, input=found.patch, check=True)
    (checkout / "model/a.py").write_text("y = 1\n" * 2000)
    found = code.identity(checkout)
    assert found.dirty and all(line.startswith(b"#") for line in found.patch.splitlines())


@pytest.mark.parametrize("script", ["#!/bin/sh\nsleep 60 &\nsleep 60\n", "#!/bin/sh\nexit 3\n", None])
def test_a_git_that_hangs_fails_or_is_missing_costs_the_commit_and_no_more(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    expected = code.identity(checkout).hash
    tools = tmp_path / "tools"
    tools.mkdir()
    if script is not None:
        (tools / "git").write_text(script)
        (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin" if script else str(tools))
    monkeypatch.setattr(code, "TIME_S", 0.3)
    assert code.identity(checkout) == (expected, None, None, b"")


def test_a_diff_that_takes_too_long_leaves_the_commit_and_a_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    (tmp_path / "git").write_text(f'#!/bin/sh\n[ "$1" = diff-index ] && sleep 60\nexec {real} "$@"\n')
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(code, "TIME_S", 1.0)
    found = code.identity(checkout)
    assert (found.commit, found.dirty) == (git(checkout, "rev-parse", "HEAD"), None)
    assert found.patch == b"# no diff: git diff-index took more than 1 s\n"


def test_a_patch_is_kept_once_and_stays_with_the_trial(checkout: Path, tmp_path: Path) -> None:
    (checkout / "model/a.py").write_text("changed = 1\n")
    found, store = code.identity(checkout), tmp_path / "runs"
    kept = code.keep(store, found)
    assert kept is not None and kept == code.keep(store, found)
    assert [p.name for p in (store / "code").iterdir()] == [kept.name]
    trials = [tmp_path / "one", tmp_path / "two"]
    for trial in trials:
        trial.mkdir()
        code.lay(kept, trial)
        code.lay(kept, trial)
    assert len({(t / "code.patch").stat().st_ino for t in [*trials]} | {kept.stat().st_ino}) == 1
    shutil.rmtree(store)
    assert (trials[0] / "code.patch").read_bytes() == found.patch


def test_where_links_are_refused_the_patch_is_copied(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "model/a.py").write_text("changed = 1\n")
    kept = code.keep(tmp_path / "runs", code.identity(checkout))
    assert kept is not None

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refused)
    code.lay(kept, tmp_path)
    assert (tmp_path / "code.patch").read_bytes() == kept.read_bytes()
    assert (tmp_path / "code.patch").stat().st_ino != kept.stat().st_ino


def test_clean_code_leaves_no_patch_and_takes_an_old_one_away(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "code.patch").write_text("of an attempt before\n")
    kept = code.keep(tmp_path / "runs", code.identity(checkout))
    assert kept is None and not (tmp_path / "runs").exists()
    code.lay(kept, tmp_path)
    assert not (tmp_path / "code.patch").exists()


def test_asking_for_the_code_imports_nothing_heavy() -> None:
    script = "import sys, experiments.code; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
