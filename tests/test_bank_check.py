"""Faults of banks, all at once; separation and merges by hand and on the real banks with the real encoder."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import bank_check, bank_picture, captions, concepts, data, yamlfile
from experiments.bank_check import Entry

ROOT = Path(__file__).parent.parent
# Activities of the made-up set share their few phrases, by design.
NAMES = sorted(path.stem for path in captions.BANKS.glob("*.yaml") if path.stem != "planted")

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
concept:
  foot: [lift the foot, lift the feet]
"""
FOUND = """\
1: warning: no `concepts`: sub_action losses need them ({} if no two phrases mean the same)
1: warning: provenance does not say written_by
1: warning: provenance does not say reviewed_by
1: warning: provenance does not say date
2: error: class 'running' is missing
3: error: class 'standing' has no texts in form sub_actions
6: warning: 'the ARM hangs' is given already on line 6 (standing, affirmative)
7: error: class 'standing', negative: '' is no text
7: error: class 'standing', negative: 3 is no text
7: warning: class 'standing', negative: 'Nobody is standing here' holds the name 'standing'
8: warning: nobody reads form 'sub_action'; did you mean 'sub_actions'?
9: error: unknown class 'runing'; did you mean 'running'?
13: warning: 'The person keeps still' is given already on line 5 (standing, sentence)
14: error: class 'walking' has no texts in form affirmative
16: warning: class 'walking', sub_actions: 'keep walking on' holds the name 'walking'
17: error: class 'badminton' needs its texts, by form
18: warning: nobody reads `concept`; did you mean 'concepts'?
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


@pytest.mark.parametrize("name", ["bank", "npz:bank"])
def test_a_bank_named_as_its_unknown_data_set_is_measured_by_its_own_classes(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "bank.yaml"
    yamlfile.dump(path, {"dataset": name, **small()})
    bank = bank_check.examine(path)
    assert bank.classes == ("p", "q") and [f.message for f in bank.findings] == [
        "provenance does not say date"
    ]
    assert [f.level for f in bank.findings] == ["warning"] and not bank.broken
    assert len(bank.entries) == 10


@pytest.mark.parametrize(
    ("name", "hint"),
    [("basic_motion", "did you mean 'basic_motions'?"), ("", "no data set ''"), ("npz:x", "no file")],
)
def test_a_data_set_that_is_not_known_is_no_silent_leave_to_lack_classes(
    tmp_path: Path, name: str, hint: str
) -> None:
    path = tmp_path / "bank.yaml"
    yamlfile.dump(path, {"dataset": name, **small()})
    first, *_ = bank_check.examine(path).findings
    assert hint in first.message and first.message.endswith("; the classes that the bank has count as all")


def test_faults_of_concepts_are_reported_once_the_texts_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "bank.yaml"
    groups = {"one": ["p x", "p y"], "q x": [], "two": ["p x"]}
    yamlfile.dump(path, {"dataset": "bank", **small()} | {"concepts": groups})
    errors = [f for f in bank_check.examine(path).findings if f.level == "error"]
    lines = path.read_text().splitlines()
    assert [(lines[f.line - 1].strip(), f.message) for f in errors] == [
        ("- p y", "no class has the sub-action 'p y'; did you mean 'p x'?"),
        ("q x: []", "concept 'q x' needs a list of phrases"),
        ("q x: []", "concept 'q x' is named like a phrase outside it"),
        ("- p x", "'p x' already belongs to concept 'one'"),
    ]


def test_a_bank_is_broken_for_the_check_exactly_where_training_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "bank.yaml"
    for bad in ([], [""], ["  "], ["?!"], [3], None, 3, {"a": "b"}):
        for form in captions.FORMS:
            yamlfile.dump(path, small(**{form: bad}))
            with pytest.raises(yamlfile.FileError):
                captions.read_bank(path, ("p", "q"))
            assert bank_check.examine(path).broken, (form, bad)
    for good in ("q x", ["q x"], ["p s", "p s"]):  # said of another class too, or twice: warnings
        for form in captions.FORMS:
            yamlfile.dump(path, small(**{form: good}))
            assert captions.read_bank(path, ("p", "q")) and concepts.concepts(path, ("p", "q"))
            assert not bank_check.examine(path).broken, (form, good)


@pytest.mark.parametrize("name", NAMES)
def test_the_banks_that_come_with_us_are_faultless(name: str) -> None:
    bank = bank_check.examine(captions.bank_path(name))
    assert bank.findings == [] and bank.groups
    if name in data.DATASETS:
        assert bank.classes == data.DATASETS[name].classes
    else:  # of a user's own windows
        assert len(bank.classes) == {"geneactiv14": 14, "geneactiv7": 7}[name]


def unit(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1)


def test_separation_by_hand() -> None:
    """a's two texts lie side by side and b's first with them; c has one text and is passed over."""
    vectors, label = unit(0, 4, 2, 90, 88, 45), ["a", "a", "b", "b", "b", "c"]
    found = bank_check.separation(vectors, label)
    assert found.recall == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert found.macro == pytest.approx(5 / 6) and found.confused == [("b", "a", 1)]
    mean, low, high = found.chance
    assert 0 <= low < mean < high <= 1 and found.macro > mean
    with pytest.raises(ValueError, match="fewer than two classes"):
        bank_check.separation(vectors[:3], ["a", "a", "b"])


def test_words_that_say_nothing_of_their_class_separate_at_chance() -> None:
    """Four texts a class and MiniLM's width: a centroid of the others would be longer for the own class."""
    rng, found = np.random.default_rng(0), []
    for _ in range(40):
        noise = rng.normal(size=(28, 384))
        unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
        found.append(bank_check.separation(unit, list("abcdefg") * 4))
    assert np.mean([one.macro for one in found]) == pytest.approx(1 / 7, abs=0.04)
    means, lows, highs = np.transpose([one.chance for one in found])
    assert np.mean(means) == pytest.approx(1 / 7, abs=0.04)
    assert (
        np.mean([low <= one.macro <= high for one, low, high in zip(found, lows, highs, strict=True)]) > 0.8
    )


def phrases(*texts: str) -> list[Entry]:
    return [Entry(i, "ab"[i % 2], "sub_actions", text) for i, text in enumerate(texts)]


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
    statements, negative, sub_actions = (float(value) for value in rows["mean of classes"])
    assert statements > 60 and sub_actions > 45 > negative
    chance = re.findall(r"(\S+) \((\d+)-(\d+)\)", ran.stdout)
    assert [20 < float(mean) < 30 for mean, _, _ in chance] == [True] * 3
    assert sub_actions > float(chance[2][2])
    merge = "swing the relaxed arm forward (walking) | swing the relaxed arm backward (walking)"
    assert f"0.95  {merge}  [opposites? forward/backward]" in ran.stdout
    assert ran.stdout.count("[made already]") == 3
    assert os.listdir(tmp_path) == ["x.png"]


def test_the_verb_ends_with_1_for_a_broken_bank_and_names_every_fault(tmp_path: Path) -> None:
    written(tmp_path, BROKEN)
    ran = check(tmp_path, "bank.yaml")
    assert ran.returncode == 1 and "bank.yaml: 7 errors, 10 warnings; 4 classes" in ran.stdout
    assert "bank.yaml:16: warning" in ran.stdout and os.listdir(tmp_path) == ["bank.yaml"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("bank",), "no bank 'bank': did you mean 'bank.yaml'?"),
        (("spra",), "no bank 'spra': did you mean 'spar'?"),
        (("spar", "--picture", "nowhere/x.png"), "--picture nowhere/x.png: a .png in a folder that is there"),
        (("spar", "--picture", "x.txt"), "--picture x.txt: a .png in a folder that is there"),
    ],
)
def test_a_mistaken_command_ends_with_one_line(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    written(tmp_path, BROKEN)
    (tmp_path / "spar").mkdir()  # a folder is no bank
    ran = check(tmp_path, *words)
    assert ran.returncode == 2 and ran.stderr == f"{line}\n" and not ran.stdout
