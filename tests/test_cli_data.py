"""`shapelex data`: the list, one set, its picture, and one line for whatever is wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import data
from experiments.cli import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPELEX_DATA", str(tmp_path / "raw"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_the_list_names_every_set_whether_it_is_there_and_where_it_comes_from(elsewhere: Path) -> None:
    answer = CliRunner().invoke(app, ["data"])
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    for entry in data.DATASETS.values():
        assert entry.name in rows and "…" not in rows[entry.name]
    assert rows["spar"].split() == ["spar", "cut", "50", "6", "7", "10", "yes", "seglearn"]
    gun_point = ["gun_point", "150", "steps", "30", "1", "2", "-", "-", "aeon"]
    assert rows["gun_point"].split() == gun_point
    assert any(line.split()[:1] == ["pamap2"] and "archive.ics.uci.edu" in line for line in lines)
    assert max(len(line) for line in lines if str(elsewhere) not in line) <= 90


def test_one_set_says_what_it_is_and_counts_windows_by_class_and_subject() -> None:
    answer = CliRunner().invoke(app, ["data", "spar"])
    assert answer.exit_code == 0
    assert "spar: 2229 windows of 6 channels x 200 steps (4 s at 50 Hz)" in answer.output
    row = next(line for line in answer.output.splitlines() if line.startswith("ABD"))
    assert row.split() == ["ABD", "44", "42", "23", "22", "36", "34", "43", "40", "41", "44", "369"]
    assert "leave_one_subject_out" in answer.output and "1802.01489" in answer.output


@pytest.mark.parametrize("name", ["spar", "japanese_vowels", "gun_point"])
def test_a_picture_is_drawn_on_request(elsewhere: Path, name: str) -> None:
    answer = CliRunner().invoke(app, ["data", name, "--plot"])
    assert answer.exit_code == 0, answer.output
    assert (elsewhere / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_windows_of_ones_own_are_described_too(elsewhere: Path) -> None:
    (elsewhere / "raw").mkdir()
    series = np.random.default_rng(0).standard_normal((30, 3, 500))
    names = np.array(["wrist_acc_x", "wrist_acc_y", "wrist_acc_z"])
    np.savez(elsewhere / "raw" / "mine.npz", series=series, label=np.arange(30) % 7, channels=names)
    data._of_family.cache_clear()
    answer = CliRunner().invoke(app, ["data", "npz:mine", "--plot"])
    assert answer.exit_code == 0, answer.output
    assert "npz:mine: 30 windows of 3 channels x 500 steps" in answer.output
    assert (elsewhere / "npz-mine.png").is_file()


def test_a_class_without_a_window_is_counted_as_0_and_left_blank_in_the_picture(elsewhere: Path) -> None:
    folder = elsewhere / "raw" / "mine"
    folder.mkdir(parents=True)
    (folder / "about.yaml").write_text("rate_hz: 10\nclasses: [walk, sit]\n")
    (folder / "recordings.csv").write_text(
        "file,subject,label\na.csv,ann,walk\nb.csv,ben,sit\nc.csv,ben,walk\n"
    )
    (folder / "a.csv").write_text("acc_x\n" + "1\n2\n" * 10)
    (folder / "b.csv").write_text("acc_x\n1\n")  # shorter than a window
    (folder / "c.csv").write_text("acc_x\n" + "1\n2\n" * 10)
    data._of_family.cache_clear()
    answer = CliRunner().invoke(app, ["data", "csv:mine", "--plot", "--window-s", "1"])
    assert answer.exit_code == 0, answer.output
    row = next(line for line in answer.output.splitlines() if line.startswith("sit"))
    assert row.split() == ["sit", "0", "0", "0"] and (elsewhere / "csv-mine.png").is_file()


def test_a_picture_that_cannot_be_written_is_one_line_and_status_2(elsewhere: Path) -> None:
    (elsewhere / "gun_point.png").mkdir()
    answer = CliRunner().invoke(app, ["data", "gun_point", "--plot"])
    assert answer.exit_code == 2 and answer.stderr == "no picture gun_point.png: Is a directory\n"
    gone = elsewhere / "gone"
    gone.mkdir()
    os.chdir(gone)  # the fixture's monkeypatch leads back
    gone.rmdir()
    answer = CliRunner().invoke(app, ["data", "gun_point", "--plot"])
    assert answer.exit_code == 2 and answer.stderr == "no picture gun_point.png: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spor"], "no data set 'spor': did you mean 'spar'?"),
        (["pamap2"], "get it from https://archive.ics.uci.edu"),
        (["uea:RacketSports"], "shapelex data uea:RacketSports --download"),
        (["npz:mine"], "mine.npz"),
        (["spar", "--download"], "--download fetches uea: sets alone"),
        (["spar", "--window-s", "500"], "no recording holds 500 s of one label"),
    ],
)
def test_whatever_is_wrong_is_one_line_and_status_2(words: list[str], message: str) -> None:
    data._of_family.cache_clear()
    answer = CliRunner().invoke(app, ["data", *words])
    assert answer.exit_code == 2 and message in answer.stderr
    assert answer.stdout == "" and len(answer.stderr.splitlines()) == 1
