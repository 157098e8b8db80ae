"""The README's short commands, in its order, as a user would type them."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
USE = re.search(r"## Use\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
COMMANDS = [line.strip() for line in USE.group(1).splitlines()] if USE else []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "sweeps").symlink_to(ROOT / "sweeps")
    return folder


def shapelex(command: str, desk: Path, **kwargs: object) -> subprocess.Popen[str]:
    verb = shlex.split(command)
    assert verb[0] == "shapelex"
    environment = {k: v for k, v in os.environ.items() if k not in ("SHAPELEX_STORE", "MLFLOW_TRACKING_URI")}
    return subprocess.Popen(
        [str(BIN / "shapelex"), *verb[1:]],
        cwd=desk,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **kwargs,  # type: ignore[call-overload]
    )


def test_the_commands_are_found_and_are_all_verbs() -> None:
    verbs = [shlex.split(c)[1] for c in COMMANDS if c.startswith("shapelex")]
    assert verbs == [
        "plan",
        "run",
        "status",
        "table",
        "evaluate",
        "figures",
        "codes",
        "report",
        "sync",
        "ui",
        "doctor",
        "data",
        "text",
    ]


def test_the_readmes_sweep_plans(desk: Path) -> None:
    text = (ROOT / "README.md").read_text().split("## A sweep file\n\n")[1].split("\n\nAlso")[0]
    example = desk / "example.yaml"
    example.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    (desk / "base").symlink_to(ROOT / "sweeps/base")
    output, _ = shapelex("shapelex plan example.yaml", desk).communicate(timeout=60)
    assert "45 cells, 45 trials: 0 done, 0 failed, 45 waiting" in output


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("shapelex") and " ui" not in c])
def test_a_command_of_the_readme_works(command: str, desk: Path) -> None:
    # The whole quick sweep takes minutes; one trial of it is the same command's first step.
    process = shapelex(command + (" --max-trials 1" if " run " in command else ""), desk)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    expected = {
        "plan": "25 cells, 25 trials: 0 done, 0 failed, 25 waiting. 2 equal points merged, 0 excluded.",
        "run": "1 done, 0 failed",
        "status": "1 done, 0 failed, 24 waiting of 25 cells",
        "table": "| supervised ",
        "evaluate": "quick: 1 of 1 done trials evaluated, 24 not done yet.",
        "figures": "figures/quick/scores.pdf",
        "codes": "wrote codes/",
        "report": "wrote reports/quick.html",
        "sync": "MLflow shows 1 FINISHED of 25",
        "doctor": "ok",
        "data": "wrote spar.png",
        "text": "0 errors, 0 warnings; 7 classes, 134 texts",
    }
    assert expected[shlex.split(command)[1]] in output


def test_the_table_left_three_formats(desk: Path) -> None:
    assert {p.suffix for p in (desk / "tables").iterdir()} == {".md", ".csv", ".tex"}


def test_ui_answers_on_this_machine_only(desk: Path) -> None:
    (command,) = [c for c in COMMANDS if c.startswith("shapelex ui")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = shapelex(f"{command} --port {port}", desk)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.3)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
