"""What a person sees: that it fits, that it costs little, that names are text, and that its ETA is right."""

import io
import os
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from standing_fixture import end, made_up, of

from experiments import lease, machine, screen
from experiments.ledger import Store
from experiments.plan import Sweep
from experiments.printable import printable, shorten, shortened
from experiments.screen import Screen, drawn, show
from experiments.standing import Standing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 x 24; what is written to it."""
    file = io.StringIO()
    monkeypatch.setattr(
        screen,
        "console",
        lambda: Console(
            file=file, force_terminal=True, width=80, height=24, markup=False, highlight=False, emoji=False,
            color_system=None, _environ={},
        ),
    )  # fmt: skip
    return file


def text(standing: Standing, width: int = 80, height: int = 20) -> list[str]:
    standing.look()
    out = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    out.print(drawn(standing, ["epochs: 1 of 2", "load " + 100 * "1"], width, height))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


LONG = "z_two_way attention=two_way merge=contrast into=[z, mu, sigma] text_dropout=0.5 codes="
NAMES = {
    "one": ["a"],
    "many": [f"row {i}" for i in range(10_000)],
    "long": [f"{LONG}{i}" for i in range(40)],
    "wide": [20 * "動作" + str(i) for i in range(15)],
    "markup": ["[red]", "[/red]", "[bold]x[/bold]", ":smile:", "[link=x]y", "\\[a]"],
}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("rows", NAMES.values(), ids=list(NAMES))
def test_the_table_fits_whatever_the_rows_are(store: Store, rows: list[str], width: int) -> None:
    sweep = made_up(rows, seeds=1, folds=1)
    for row in rows[:3]:
        end(store, of(sweep, row)[0], 0.5)
    lines = text(Standing(sweep, store), width)
    assert len(lines) <= 20 and max(map(cell_len, lines)) <= width
    assert any(line.startswith("epochs: 1 of 2") for line in lines)


def test_names_are_text_and_never_markup(store: Store) -> None:
    lines = text(Standing(made_up(NAMES["markup"]), store))
    assert [line.split()[0] for line in lines[1:7]] == [
        "[red]", "[/red]", "[bold]x[/bold]", ":smile:", "[link=x]y", "\\[a]",
    ]  # fmt: skip


def test_a_row_says_its_states_score_interval_and_pairs(store: Store) -> None:
    sweep = made_up(["good", "bad"], seeds=1, folds=3)
    for row, scores in (("good", (0.6, 0.8, None)), ("bad", (0.5, None))):
        for signature, score in zip(of(sweep, row), scores, strict=False):
            end(store, signature, score)
    held = lease.claim(store.trial(of(sweep, "bad")[2]))
    lines = text(Standing(sweep, store))
    held.release()
    assert lines[0].split() == ["row", "done", "failed", "running", "waiting", "val", "macro-F1", "n"]
    assert lines[1].split() == ["good", "2", "1", "-", "-", "70.0", "±", "127.1", "*", "2"]
    assert lines[2].split() == ["bad", "1", "1", "1", "-", "50.0", "1"]


def test_of_too_many_rows_the_best_and_those_at_work_are_shown_and_the_others_counted(store: Store) -> None:
    sweep = made_up([f"row{i:02}" for i in range(50)], seeds=1)
    end(store, of(sweep, "row40")[0], 0.9)
    end(store, of(sweep, "row30")[0], None)
    held = lease.claim(store.trial(of(sweep, "row49")[0]))
    lines = text(Standing(sweep, store))
    held.release()
    names = [line.split()[0] for line in lines[1:17]]
    assert {"row40", "row30", "row49"} <= set(names) and names == sorted(names)
    (more,) = [line for line in lines if line.startswith("and ")]
    assert more == f"and 34 more rows: {2 * 34} waiting"


def test_as_many_rows_as_fit_are_shown_without_a_word_on_others(store: Store) -> None:
    for count, told in ((17, False), (18, True)):
        lines = text(Standing(made_up([f"row{i}" for i in range(count)]), store))
        assert (len(lines) <= 20, any(line.startswith("and ") for line in lines)) == (True, told), count


def test_the_time_left_is_by_what_this_launch_did(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Screen(made_up(["a"]), store, trials=2)

    def left(after_s: float, done: float, total: float, running: str) -> float | None:
        now[0] += after_s
        shown.progress(done, total, [running])
        return shown.pace.left_s(now[0])

    assert left(0, 20, 876, "encoding texts") is None
    assert left(10, 120, 876, "encoding texts") == pytest.approx(75.6)
    assert left(5, 30, 80, "a") is None  # the 30 were there before, and texts are not epochs
    assert left(10, 30, 80, "a") is None
    assert left(10, 50, 80, "a") == pytest.approx(30)
    assert left(0, 50, 60, "a") == pytest.approx(10)  # others took 20
    assert left(0, 55, 80, "a") == pytest.approx(25)  # others' done and new work are nobody's pace here
    assert left(20, 75, 80, "a") == pytest.approx(5)


def test_lines_stay_as_they_are_where_there_is_no_terminal(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, line = made_up(["into=[/z]"]), "into=[z] [/red] :smile: " + 30 * "one line "
    shown = Screen(sweep, store, trials=12)
    shown.progress(1, 40, ["into=[/z]"])
    shown.note(line)
    shown.plain_at -= 31
    shown.progress(11, 40, ["into=[/z]", "into=[/z]"])
    shown.progress(12, 40, ["into=[/z]"])
    first, second, *_ = of(sweep, "into=[/z]")
    shown.ended("[x] seed 0", end(store, first, 0.5))
    shown.ended("[x] seed 1", end(store, second, None, error="E: \x1b[31mred\x07"))
    shown.close()
    noted, percent, done, failed = capsys.readouterr().out.splitlines()
    assert noted == line
    assert percent.startswith("epochs: 11 of 40 (28 %)   0:00 elapsed   ETA 0:0")
    assert percent.endswith("running: into=[/z] into=[/z]")
    assert done == " 1/12  [x] seed 0: validation macro-F1 50.0, 20.0 s"
    assert failed == " 2/12  [x] seed 1: failed: E: red "


def test_a_terminal_shows_the_table_and_keeps_lines_above_it(store: Store, terminal: io.StringIO) -> None:
    sweep = made_up([f"row{i}" for i in range(99)])
    end(store, of(sweep, "row5")[0], 0.5)  # another launch's
    shown = Screen(sweep, store, 2, behind=lambda: 3)
    shown.progress(1, 40, ["row1"])
    shown.ended("row6 seed 0", end(store, of(sweep, "row6")[0], 0.75))
    shown.due = 0.0
    shown.progress(2, 40, ["row1"])
    shown.close()
    shown.note("the end")
    written = terminal.getvalue()
    assert "row5  " in written and "75.0 *" in written and "MLflow 3 cells behind" in written
    assert "1/2  row6 seed 0: validation macro-F1 75.0, 20.0 s" in written
    assert written.endswith("the end\n") and "\x1b[?25h" in written  # the cursor is back


def test_a_store_that_cannot_be_read_stops_no_launch(
    store: Store, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(standing: Standing) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Standing, "look", broken)
    shown = Screen(made_up(["a"]), store, 1)
    shown.progress(1, 2, ["a"])
    shown.close()
    assert "epochs: 1 of 2 (50 %)" in terminal.getvalue()


def busy(sweep: Sweep, store: Store) -> float:
    """Share of a core that a launch's screen takes over 4 s of two trials that write an epoch every poll."""
    running = of(sweep, sweep.rows[0].name)[:2]
    leases = [lease.claim(store.trial(signature)) for signature in running]
    shown = Screen(sweep, store, 2)
    shown.progress(0, 100, ["row0"])  # the first look reads every result, once
    cpu, began, done = time.process_time(), time.monotonic(), 0
    while time.monotonic() - began < 4:
        done += 1
        for held in leases:
            with (held.folder / "metrics.jsonl").open("a") as file:
                file.write("{}\n")
        shown.progress(done, 100, ["row0"])
        time.sleep(0.2)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    shown.close()
    for held in leases:
        held.release()
    return share


@pytest.mark.parametrize("rows", [2, 400])
def test_the_live_view_takes_less_than_a_twentieth_of_a_core(
    store: Store, terminal: io.StringIO, rows: int
) -> None:
    sweep = made_up([f"row{i}" for i in range(rows)], seeds=5, folds=5)
    for cell in sweep.cells[: len(sweep.cells) // 2]:
        if cell.row != "row0":
            store.trial(cell.signature).mkdir(parents=True)
            end(store, cell.signature, 0.5)
    assert busy(sweep, store) < 0.05


def test_status_prints_every_row_where_there_is_no_terminal(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    standing = Standing(made_up([f"{LONG}{i}" for i in range(40)]), store)
    standing.look()
    show(standing, 0, 2, every_row=False)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(LONG) for line in lines) == 40
    assert lines[-2] == "epochs: 0 of 1600 (0 %)"
    assert lines[-1].startswith("0 trials running   MLflow 2 cells behind   load ")


def test_status_fits_a_terminal_unless_all_rows_are_asked_for(store: Store, terminal: io.StringIO) -> None:
    standing = Standing(made_up([f"{LONG}{i}" for i in range(40)]), store)
    for every, fits in ((False, True), (True, False)):
        terminal.seek(0)
        terminal.truncate()
        show(standing, 0, 0, every)
        lines = terminal.getvalue().splitlines()
        assert (len(lines) <= 24) == fits and max(map(cell_len, lines)) <= 80
        assert any("codes=3 " in line for line in lines)  # what differs is still told


def test_names_lose_what_they_share_before_what_differs() -> None:
    assert shortened(["row a=1 b=2", "row a=1 b=3"], 11) == ["row a=1 b=2", "row a=1 b=3"]
    assert shortened(["row a=1 b=2", "row a=1 b=3"], 8) == ["… b=2", "… b=3"]
    assert shortened(["abcdefghij"], 5) == ["ab…ij"] and shorten("動作動作動作", 5) == "動…作"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("10 %\r20 %\r\n", "20 %"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x00b\x9bc\u202ed", "a b c d"),
        ("\x1bc\x1b[2J\x1b(Bplain [red] é 動", "plain [red] é 動"),
    ],
)
def test_nothing_from_elsewhere_can_command_the_terminal(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def fake(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_gpus_are_shown_as_nvidia_smi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "echo '0, NVIDIA H100, 570.1, 93, 40960, 81920'", monkeypatch)
    load = machine.Load()
    load.look(0.0)
    load.wait(10.0)
    assert load.line().endswith(" CPUs   GPU 0 93 % 40/80 GiB")
    eight = "".join(f"{i}, NVIDIA H100, 570.1, {10 * i}, 1024, 81920\n" for i in range(8))
    load.gpus = machine.parse(eight)
    assert load.line().endswith("8 GPUs 35 % busy, 8 of 640 GiB")
    load.gpus = machine.parse("0, A100, 570.1, [N/A], [N/A], [N/A]\nNo devices were found\n")
    assert load.line().endswith("GPU 0")
    load.close()


def test_nvidia_smi_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "exec sleep 60", monkeypatch)
    load, began = machine.Load(), time.monotonic()
    for now in (0.0, 1.0, 20.0):
        load.look(now)
    load.wait(0.1)
    assert load.line().endswith(" CPUs") and load.asked is not None
    process = load.asked
    load.close()
    assert time.monotonic() - began < 5 and process.returncode is not None


def test_where_there_is_no_nvidia_smi_no_gpu_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    load = machine.Load()
    load.look(0.0)
    load.wait(0.1)
    assert load.line().endswith(" CPUs")
