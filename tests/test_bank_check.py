"""Faults of banks, all at once; separation and merges by hand and on the real banks with the real encoder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import bank_check, bank_picture, captions, data, yamlfile
from experiments.bank_check import Entry

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in captions.BANKS.glob("*.yaml"))

BROKEN = """\
dataset: basic_motions
classes:
  standing:
    keyword: standing
    sentence: [The person keeps still.]
    affirmative: [The arm hangs., the ARM hangs]
    negative: [Nobody is standing here, '', 3]
    sub_action: [stand]
  runing:
    keyword: running
  walking:
    keyword: walking
    sentence: [The person keeps still, A walk]
    affirmative: []
    negative: [No hop]
    sub_actions: [lift the foot, plant the foot, keep walking on]
  badminton: no texts
concepts:
  foot: [lift the foot, lift the feet]
  plant the foot: []
  again:
    - lift the foot
"""
FOUND = """\
1: warning: provenance does not say written_by
1: warning: provenance does not say reviewed_by
1: warning: provenance does not say date
2: error: class 'running' is missing
3: error: class 'standing' has no texts in form sub_actions
6: error: 'the ARM hangs' is given already on line 6 (standing, affirmative)
7: error: class 'standing', negative: '' is no text
7: error: class 'standing', negative: 3 is no text
7: warning: class 'standing', negative: 'Nobody is standing here' holds the name 'standing'
8: warning: nobody reads form 'sub_action'; did you mean 'sub_actions'?
9: error: unknown class 'runing'; did you mean 'running'?
13: error: 'The person keeps still' is given already on line 5 (standing, sentence)
14: error: class 'walking' has no texts in form affirmative
16: warning: class 'walking', sub_actions: 'keep walking on' holds the name 'walking'
17: error: class 'badminton' needs its texts, by form
19: error: no class has the sub-action 'lift the feet'; did you mean 'lift the foot'?
20: error: concept 'plant the foot' needs a list of phrases
20: error: concept 'plant the foot' is named like a phrase outside it
22: error: 'lift the foot' already belongs to concept 'foot'
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "bank.yaml"
    path.write_text(text)
    return path


def test_a_bank_that_is_broken_in_many_ways_reports_all_of_them_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, BROKEN)
    bank = bank_check.examine(path)
    lines = [str(finding) for finding in bank.findings]
    assert sorted(lines) == sorted(f"{path}:{line}" for line in FOUND.splitlines())
    assert [finding.line for finding in bank.findings] == sorted(finding.line for finding in bank.findings)
    assert bank.broken


@pytest.mark.parametrize("text", ["dataset: x\n", "dataset: x\nclasses: {}\n", "classes: [a]\n"])
def test_a_bank_without_classes_says_so(tmp_path: Path, text: str) -> None:
    bank = bank_check.examine(written(tmp_path, text))
    assert "a bank needs `classes`" in [finding.message for finding in bank.findings] and bank.broken


def small(**forms: Any) -> dict[str, Any]:
    texts = {"keyword": "{} k", "sentence": "{} s", "affirmative": "{} a", "negative": "{} n"}
    filled = {c: {f: t.format(c) for f, t in texts.items()} | {"sub_actions": [f"{c} x"]} for c in ("p", "q")}
    filled["p"] |= forms
    return {
        "classes": filled,
        "concepts": {},
        "provenance": dict.fromkeys(("written_by", "reviewed_by"), "x"),
    }


def test_an_unknown_data_set_is_measured_by_the_banks_own_classes(tmp_path: Path) -> None:
    path = tmp_path / "bank.yaml"
    yamlfile.dump(path, {"dataset": "mine", **small()})
    bank = bank_check.examine(path)
    assert bank.classes == ("p", "q") and [f.message for f in bank.findings] == [
        "provenance does not say date"
    ]
    assert [f.level for f in bank.findings] == ["warning"] and not bank.broken
    assert len(bank.entries) == 10


def test_a_bank_is_broken_for_the_check_exactly_where_training_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "bank.yaml"
    for bad in ([], [""], [3], None, 3, {"a": "b"}):
        for form in captions.FORMS:
            yamlfile.dump(path, small(**{form: bad}))
            with pytest.raises(yamlfile.FileError):
                captions.read_bank(path, ("p", "q"))
            assert bank_check.examine(path).broken, (form, bad)


@pytest.mark.parametrize("name", NAMES)
def test_the_banks_that_come_with_us_are_faultless(name: str) -> None:
    bank = bank_check.examine(captions.bank_path(name))
    assert bank.findings == [] and bank.groups
    if name in data.DATASETS:
        assert bank.classes == data.DATASETS[name].classes
    else:  # of a user's own windows
        assert len(bank.classes) == {"geneactiv14": 14, "geneactiv7": 7}[name]


def test_separation_by_hand() -> None:
    """a's two texts point the same way, b's first lies with a; c has one text and is passed over."""
    vectors = np.array([[1, 0], [1.1, 0.1], [1, 0.05], [0, 1], [0.1, 1.1], [5, 5]])
    found = bank_check.separation(vectors, ["a", "a", "b", "b", "b", "c"])
    assert found.recall == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert (found.macro, found.chance) == (pytest.approx(5 / 6), 0.5)
    assert found.confused == [("b", "a", 1)]
    with pytest.raises(ValueError, match="fewer than two classes"):
        bank_check.separation(vectors[:3], ["a", "a", "b"])


def test_words_that_say_nothing_of_their_class_separate_at_chance() -> None:
    rng = np.random.default_rng(0)
    macro = [bank_check.separation(rng.normal(size=(40, 16)), list("abcd") * 10).macro for _ in range(10)]
    assert np.mean(macro) == pytest.approx(0.25, abs=0.06)


def phrases(*texts: str) -> list[Entry]:
    return [Entry(i, "ab"[i % 2], "sub_actions", text) for i, text in enumerate(texts)]


def unit(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1)


def test_merges_by_hand_hold_only_phrases_that_are_all_alike() -> None:
    """0, 30 and 60 degrees: neighbours are alike (cosine .87), the ends are not (.5)."""
    entries = phrases("lift it", "lower it", "turn", "rest")
    found = bank_check.similarity(entries, unit(0, 20, 60, 180), {"lift it": "z", "lower it": "z"})
    (merge,) = found.merges
    assert sorted(merge.rows) == [0, 1] and merge.cosine == pytest.approx(np.cos(np.radians(20)))
    assert merge.done and merge.opposite == ["lift/lower"]
    places = [int(np.flatnonzero(found.order == row)[0]) for row in merge.rows]
    assert abs(places[0] - places[1]) == 1
    chain = bank_check.similarity(phrases("p", "q", "r"), unit(0, 30, 60), {"p": "z"})
    assert [len(merge.rows) for merge in chain.merges] == [2]
    assert not chain.merges[0].done and chain.merges[0].opposite == []
    assert bank_check.similarity(phrases("p"), unit(0), {}).merges == []


def test_a_picture_has_a_row_a_phrase_and_an_outline_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    outlines: list[Any] = []
    add = Axes.add_patch
    monkeypatch.setattr(Axes, "add_patch", lambda ax, patch: outlines.append(patch) or add(ax, patch))
    found = bank_check.similarity(phrases("p", "q", "r", "s"), unit(0, 5, 90, 95), {"p": "z", "q": "z"})
    bank_picture.draw(found, tmp_path / "x.png")
    assert [patch.get_width() for patch in outlines] == [2, 2]
    assert {patch.get_edgecolor()[:3] for patch in outlines} == {(1, 1, 1), (1, 0, 0)}
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.cli", "text", "check", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_verb_on_a_bare_name_measures_the_real_bank(tmp_path: Path) -> None:
    ran = check(tmp_path, "basic_motions", "--picture", "x.png")
    assert ran.returncode == 0, ran.stderr
    rows = {line.split("  ")[0]: line.split()[-3:] for line in ran.stdout.splitlines()}
    assert rows["chance"] == ["25.0", "25.0", "25.0"]
    statements, negative, sub_actions = (float(value) for value in rows["mean of classes"])
    assert statements > 50 and sub_actions > 50 and negative < 25  # negatives say what the others do
    merge = "swing the relaxed arm forward (walking) | swing the relaxed arm backward (walking)"
    assert f"0.95  {merge}  [opposites? forward/backward]" in ran.stdout
    assert ran.stdout.count("[made already]") == 3
    assert os.listdir(tmp_path) == ["x.png"]


def test_the_verb_ends_with_1_for_a_broken_bank_and_names_every_fault(tmp_path: Path) -> None:
    written(tmp_path, BROKEN)
    ran = check(tmp_path, "bank.yaml")
    assert ran.returncode == 1 and "13 errors, 6 warnings; 4 classes" in ran.stdout
    assert "bank.yaml:16: warning" in ran.stdout and os.listdir(tmp_path) == ["bank.yaml"]
    missing = check(tmp_path, "bank")
    assert missing.returncode == 2 and missing.stderr == "bank: no such file, did you mean 'bank.yaml'?\n"
