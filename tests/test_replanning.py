"""A sweep that is planned again: after an edit, and over whatever a crash left in the store."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from experiments import cli
from experiments.ledger import Store, write_json

SWEEP = """\
# Where should text enter?
set:
  model.guidance.attention: one_way
  train: {lr: 1e-3, epochs: 3}
seeds: 2
reference: z
contrasts: [[all, z]]
variants:
  all: {model.guidance.into: all}
  z: {model.guidance.into: [z]}
"""
BASE = "model: {guidance: {attention: one_way}}\ntrain.lr: 1e-3\ntrain.epochs: 3\n"
SAME = {
    "comments": SWEEP.replace("seeds: 2", "# twice\nseeds: 2  # or more?").replace("Where should", "Does"),
    "a number written out": SWEEP.replace("1e-3", "0.001"),
    "a number with a sign": SWEEP.replace("1e-3", "+.1E-2"),
    "seeds one by one": SWEEP.replace("seeds: 2", "seeds: [0, 1]"),
    "block style": SWEEP.replace("{lr: 1e-3, epochs: 3}", "\n    lr: 1e-3\n    epochs: 3").replace(
        "[[all, z]]", "\n  - - all\n    - z"
    ),
    "flow style": """{set: {model: {guidance: {attention: one_way}}, train.lr: 1e-3, train.epochs: 3},
        seeds: 2,
        reference: z, contrasts: [[all, z]],
        variants: {all: {model.guidance.into: all}, z: {model.guidance.into: [z]}}}""",
    "dotted keys": SWEEP.replace("train: {lr: 1e-3, epochs: 3}", "train.epochs: 3\n  train.lr: 1e-3"),
    "variants in another order": SWEEP.replace("  all: {model.guidance.into: all}\n", "")
    + "  all: {model.guidance.into: all}\n",
    "words in another order": "reference: z\n" + SWEEP.replace("reference: z\n", ""),
    "quotes": SWEEP.replace("all: {", '"all": {').replace("[z]}", "['z']}"),
    "all attributes by name": SWEEP.replace("into: all", "into: [z, mu, sigma, t, l]"),
    "Windows line ends": SWEEP.replace("\n", "\r\n"),
    "a base": SWEEP.replace("set:\n", "base: base.yaml\n")
    .replace("  model.guidance.attention: one_way\n", "")
    .replace("  train: {lr: 1e-3, epochs: 3}\n", ""),
    "a default that is said": SWEEP.replace("seeds: 2", "seeds: 2\nfolds: 1\nprimary: tokens"),
}


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    (tmp_path / "base.yaml").write_text(BASE)

    def planned(text: str, name: str = "where") -> dict[str, Any]:
        """plan.json, after the command line planned that text."""
        (tmp_path / f"{name}.yaml").write_bytes(text.encode())
        with pytest.raises(SystemExit) as stop:
            cli.app(["plan", str(tmp_path / f"{name}.yaml"), "--store", str(tmp_path / "runs")])
        assert stop.value.code == 0, capsys.readouterr().err
        found: dict[str, Any] = json.loads((tmp_path / "runs/sweeps" / name / "plan.json").read_text())
        return found

    return planned


def cells(plan: dict[str, Any]) -> set[tuple[Any, ...]]:
    out = {tuple(cell.values()) for cell in plan["cells"]}
    assert len(out) == len(plan["cells"]) == len({cell["signature"] for cell in plan["cells"]})
    return out


@pytest.mark.parametrize("how", SAME)
def test_notation_order_and_comments_change_no_cell_and_the_reference_stays_first(
    planned: Any, how: str
) -> None:
    assert SAME[how] != SWEEP
    before, after = planned(SWEEP), planned(SAME[how])
    assert cells(after) == cells(before)
    assert after["cells"] == before["cells"], "the reference first, then the other row, seed by seed"
    assert [cell["row"] for cell in after["cells"]] == ["z", "all", "z", "all"]
    assert {key: after[key] for key in ("reference", "contrasts", "differs", "unit", "primary")} == {
        key: before[key] for key in ("reference", "contrasts", "differs", "unit", "primary")
    }


def test_a_renamed_file_has_the_same_cells_under_its_new_name(planned: Any, tmp_path: Path) -> None:
    before = planned(SWEEP)
    (tmp_path / "where.yaml").rename(tmp_path / "elsewhere.yaml")
    after = planned(SWEEP, "elsewhere")
    assert after["cells"] == before["cells"] and after["sweep"] == "elsewhere"


EDITS = {  # the text after an edit; the cells that it adds and removes, as (row, seed)
    "one seed more": (SWEEP.replace("seeds: 2", "seeds: 3"), {("z", 2), ("all", 2)}, set()),
    "one seed less": (SWEEP.replace("seeds: 2", "seeds: [1]"), set(), {("z", 0), ("all", 0)}),
    "one variant more": (f"{SWEEP}  t: {{model.guidance.into: [t]}}\n", {("t", 0), ("t", 1)}, set()),
    "one variant less": (
        SWEEP.replace("  all: {model.guidance.into: all}\n", "").replace("contrasts: [[all, z]]\n", ""),
        set(), {("all", 0), ("all", 1)},
    ),
    "one variant changed": (
        SWEEP.replace("into: all}", "into: all, losses.ce_series: 0.1}"),
        {("all", 0), ("all", 1)}, {("all", 0), ("all", 1)},
    ),
    "another reference": (SWEEP.replace("reference: z", "reference: all"), set(), set()),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_adds_and_removes_its_own_cells_and_touches_no_other(planned: Any, edit: str) -> None:
    text, added, removed = EDITS[edit]
    before = planned(SWEEP)
    after = planned(text)
    assert {(row, seed) for row, _, seed, *_ in cells(after) - cells(before)} == added
    assert {(row, seed) for row, _, seed, *_ in cells(before) - cells(after)} == removed
    assert after["cells"][0]["row"] == after["reference"]
    assert planned(SWEEP)["cells"] == before["cells"], "and back again"


def test_a_renamed_variant_keeps_its_trials(planned: Any) -> None:
    before = planned(SWEEP)
    after = planned(SWEEP.replace("all:", "every:").replace("[[all, z]]", "[[every, z]]"))
    assert {cell[-1] for cell in cells(after)} == {cell[-1] for cell in cells(before)}
    assert {cell[0] for cell in cells(after)} == {"every", "z"}


LEFT: dict[str, bytes | None] = {
    "nothing": b"",
    "a torn one": b'{"schema": 1, "file": "/tmp',
    "no text": b"\x00\xff\xfe",
    "a list": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "text": b'"plan"',
    "values of another type": b'{"file": [1], "sweep": 3, "cells": {}, "a|1|2": 5, "b|1|2": "no digest"}',
    "a path that is none": b'{"file": "a\\u0000b"}',
    "a path without an end": json.dumps({"file": "x" * 5000}).encode(),
    "a number that Python refuses": b'{"file": ' + b"9" * 5000 + b"}",
    "nesting without an end": b"[" * 200_000,
    "a folder": None,
}


@pytest.mark.parametrize("kept", ["sweeps/where/plan.json", "cache/digests.json"])
@pytest.mark.parametrize("left", LEFT)
def test_planning_goes_on_over_whatever_a_crash_left_and_writes_it_anew(
    planned: Any, tmp_path: Path, kept: str, left: str
) -> None:
    plan = planned(SWEEP)
    path, content = tmp_path / "runs" / kept, LEFT[left]
    good = json.loads(path.read_text())
    path.unlink()
    if content is None:
        path.mkdir()
        (path / "something of the user's").write_text("kept")
    else:
        path.write_bytes(content)
    assert planned(SWEEP) == plan
    assert json.loads(path.read_text()) == good
    aside = list(path.parent.glob(f"{path.name}.*.aside/something*"))
    assert len(aside) == (content is None)


def test_a_digest_that_is_none_is_made_anew(planned: Any, tmp_path: Path) -> None:
    plan = planned(SWEEP)
    path = tmp_path / "runs/cache/digests.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({key: value[:63] for key, value in good.items()}))
    assert planned(SWEEP) == plan and json.loads(path.read_text()) == good


@pytest.mark.parametrize("left", LEFT)
def test_a_result_that_is_none_is_a_trial_that_waits(
    planned: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    trial = tmp_path / "runs/trials" / planned(SWEEP)["cells"][0]["signature"]
    trial.mkdir(parents=True)
    content = LEFT[left]
    if content is None:
        (trial / "result.json").mkdir()
    else:
        (trial / "result.json").write_bytes(content)
    capsys.readouterr()
    planned(SWEEP)
    assert "0 done, 0 failed, 4 waiting" in capsys.readouterr().out


@pytest.mark.parametrize(
    "field", [{"metrics": None}, {"metrics": {"val/macro_f1": "x"}}, {"finished_at": "noon"}, {"cost": []}]
)
def test_a_result_whose_fields_are_of_another_kind_is_none(tmp_path: Path, field: dict[str, Any]) -> None:
    store, name = Store(tmp_path), 16 * "a"
    path = store.trial(name) / "result.json"
    good = {"signature": name, "status": "done", "metrics": {}, "finished_at": "2026-11-21T21:00:00Z"}
    write_json(path, good)
    assert store.result(name) == good
    write_json(path, good | field)
    assert store.result(name) is None
    path.unlink()
    path.symlink_to(path)
    assert store.result(name) is None


def test_a_plan_that_says_the_same_is_not_written_again(planned: Any, tmp_path: Path) -> None:
    planned(SWEEP)
    path = next(tmp_path.glob("runs/sweeps/*/plan.json"))
    before = path.stat().st_mtime_ns
    planned(SWEEP)
    assert path.stat().st_mtime_ns == before


def test_a_store_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text("seeds: 1\n")
    (tmp_path / "runs").write_text("")
    with pytest.raises(SystemExit) as stop:
        cli.app(["plan", str(tmp_path / "x.yaml"), "--store", str(tmp_path / "runs")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and str(tmp_path / "runs") in line


def test_two_sweeps_whose_names_differ_in_case_alone_do_not_share_a_store(
    planned: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(SWEEP, "where")
    (tmp_path / "Where.yaml").write_text(SWEEP)
    if os.path.samefile(tmp_path / "Where.yaml", tmp_path / "where.yaml"):
        return  # this file system sees one file, and one sweep
    with pytest.raises(SystemExit) as stop:
        cli.app(["plan", str(tmp_path / "Where.yaml"), "--store", str(tmp_path / "runs")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert f"in this store 'where' is {tmp_path / 'where.yaml'}: rename one of the two" in line
    (tmp_path / "where.yaml").unlink()
    assert planned(SWEEP, "Where")["sweep"] == "Where"
