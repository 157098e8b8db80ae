"""`shapelex codes` on trials that were really trained."""

import csv
from pathlib import Path

import pytest
from conftest import Finished
from typer.testing import CliRunner, Result

from analysis import choice, lexicon, load
from experiments.cli import app


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("codes")


def codes(finished: Finished, out: Path, trial: object, *options: str) -> Result:
    asked = ["codes", str(trial), "--store", str(finished.store.root), "--out", str(out), *options]
    return CliRunner().invoke(app, asked)


def signatures(finished: Finished, row: str) -> list[str]:
    frame = load.frame(finished.store.root, "tiny")
    return list(frame.loc[frame["row"] == row, "signature"])


def test_a_sweep_stands_for_its_trial_that_is_best_on_validation_and_has_codes(
    finished: Finished, out: Path
) -> None:
    done = codes(finished, out, finished.file)
    assert done.exit_code == 0, done.output
    best = choice.best_coded(load.frame(finished.store.root, "tiny"), "seed", ["plain", "text", "statistics"])
    assert best is not None and best[0] != "statistics"
    page = (out / f"{best[1]}.html").read_text()
    assert f"<h1>What the codes of {best[0]} in tiny mean</h1>" in page
    assert done.stdout.endswith(f"wrote {out / best[1]}.html\nwrote {out / best[1]}.csv\n")


def test_a_row_of_it_has_a_page_and_a_line_a_code(finished: Finished, out: Path) -> None:
    done = codes(finished, out, finished.file, "--row", "text")
    assert done.exit_code == 0, done.output
    mine = choice.best_trials(load.frame(finished.store.root, "tiny"))["text"]
    found = lexicon.read(finished.store.root, mine)
    with (out / f"{mine}.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert sorted(int(line["code"]) for line in lines) == list(range(8))
    assert sum(int(line["tokens"]) for line in lines) == found.code.size
    assert {"class/badminton", "near", "gain", "evidence"} <= lines[0].keys()
    page = (out / f"{mine}.html").read_text()
    assert page.count('class="card"') == len(found.order) and page.count('class="strip"') == 12
    assert "meaning/nmi_null" in page and "meaning/nmi_null" in done.stdout
    below = done.stdout[done.stdout.index("code  % of tokens") :].splitlines()[1:]
    first = [line.split()[0] for line in below]
    assert first[: len(found.order)] == [str(n) for n in found.order]
    assert first[len(found.order)].startswith("meaning/")  # codes of no token are left out
    assert "nan" not in done.stdout


def test_the_first_digits_of_a_signature_are_enough_where_one_trial_has_them(
    finished: Finished, out: Path
) -> None:
    mine = signatures(finished, "text")[0]
    done = codes(finished, out, mine[:15])
    assert done.exit_code == 0 and f"wrote {out / mine}.html" in done.stdout
    assert f"<h1>What the codes of {mine} mean</h1>" in (out / f"{mine}.html").read_text()


def test_what_stands_for_no_trial_or_several_is_told_in_a_line(finished: Finished, out: Path) -> None:
    root = finished.store.root
    count = len(list((root / "trials").iterdir()))
    several = codes(finished, out, "")
    assert several.exit_code == 2 and several.stderr.startswith(f"{count} trials begin with '': ")
    assert several.stderr.endswith(", ...\n") and several.stderr.count("\n") == 1
    none = codes(finished, out, "xyz")
    assert (none.exit_code, none.stderr) == (
        2,
        f"no trial of {root} begins with 'xyz': `shapelex plan SWEEP` lists signatures\n",
    )


def test_rows_that_are_not_there_or_have_no_codes_are_told_in_a_line(finished: Finished, out: Path) -> None:
    unknown = codes(finished, out, finished.file, "--row", "txt")
    assert unknown.exit_code == 2 and unknown.stderr.startswith("no row 'txt' in tiny: did you mean 'text'")
    without = codes(finished, out, finished.file, "--row", "statistics")
    assert (without.exit_code, without.stderr) == (1, "tiny: no done trial of statistics has codes yet\n")
    baseline = signatures(finished, "statistics")[0]
    alone = codes(finished, out, baseline)
    assert (alone.exit_code, alone.stderr) == (
        1,
        f"{baseline} has no codes: it is the baseline statistics\n",
    )
    odd = codes(finished, out, baseline, "--row", "text")
    assert (odd.exit_code, odd.stderr) == (
        2,
        "--row is of a sweep: give a sweep file in place of a signature\n",
    )
    assert not (out / f"{baseline}.html").exists()


def test_a_sweep_of_which_nothing_is_done_has_no_codes_yet(finished: Finished, tmp_path: Path) -> None:
    file = tmp_path / "later.yaml"
    file.write_text(finished.file.read_text().replace("epochs: 2", "epochs: 3"))
    done = CliRunner().invoke(app, ["codes", str(file), "--store", str(tmp_path / "new")])
    assert done.exit_code != 0 and done.stderr.count("\n") == 1, done.output


def test_a_folder_that_cannot_be_written_is_told_in_a_line(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = codes(finished, tmp_path / "file", signatures(finished, "text")[0])
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert "can't be written to" in done.stderr
