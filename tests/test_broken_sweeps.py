import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import cli

SPAR = "{data: {name: spar, window_s: 4, overlap_frac: 0.5, split: subject_kfold}}"
LEAKY, OFFICIAL = (SPAR.replace("subject_kfold", name) for name in ("leaky_random", "official"))
TEN = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
HEAVY = ("torch", "lightning", "transformers", "mlflow", "optuna", "pandas", "sklearn")


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def refused(text: str, verb: str = "plan") -> tuple[str, int, str]:
        """File, line and message of the one line that the command line says."""
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(SystemExit) as stop:
            cli.app([verb, str(tmp_path / "x.yaml"), "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        assert stop.value.code == 2 and printed.out == ""
        assert not (tmp_path / "store").exists(), "something ran or was written"
        (line,) = printed.err.splitlines()
        file, number, message = line.split(":", 2)
        return str(Path(file).relative_to(tmp_path)), int(number), message.strip()

    return refused


BROKEN = {
    "an unknown word": ("seeds: 2\nvaraints: {a: {}}", 2, "did you mean 'variants'?"),
    "a setting outside set": ("seeds: 2\nmodel.heads: 4", 2, "put it under `set:`"),
    "an unknown key": ("set:\n  model.hads: 4", 2, "did you mean 'model.heads'?"),
    "an unknown nested key": ("set:\n  model:\n    guidance: {inot: all}", 3, "'model.guidance.into'?"),
    "an unknown key in a variant": ("variants:\n  a:\n  b: {losses.ce_serie: 1}", 3, "'losses.ce_series'?"),
    "an unknown key in the grid": ("grid:\n  train.lrr: [1]", 2, "did you mean 'train.lr'?"),
    "an unknown key in exclude": ("exclude:\n  - {varient: a}", 2, "did you mean 'variant'?"),
    "text for a number": ('set:\n  train.epochs: "20"', 2, 'train.epochs: "20" does not fit'),
    "a number with a point": ("set:\n  train.epochs: 20.0", 2, "a valid integer"),
    "a number out of range": ("set:\n  train.epochs: 0", 2, "greater than or equal to 1"),
    "true for a number": ("set:\n  train.epochs: true", 2, "a valid integer"),
    "a seed that is set": ("seeds: 2\nseed: true", 2, "'seed' is set by the word `seeds`"),
    "a fold that is set": ("set:\n  data: {fold: 1}", 2, "set by the sweep's word `folds`"),
    "a level that is near another": ("set:\n  text.control: constnt", 2, "did you mean 'constant'?"),
    "a level that is near none": ("set:\n  text.form: qq", 2, "'keyword', 'sentence', 'affirmative'"),
    "off for a subtree": ("seeds: 2\nset:\n  text: off", 3, "set one of text.source, text.form"),
    "off for a level": ("set:\n  text.control: off", 2, '"off" does not fit'),
    "yes for true": ("set:\n  model.keep_scale: yes", 2, "should be true or false"),
    "one attribute without a list": ("set:\n  model.guidance.into: z", 2, "`all` or a list of z, mu,"),
    "no attribute": ("set:\n  model.guidance.into: []", 2, "at least 1 item"),
    "a wrong number in a list": ("set:\n  probe.penalties: [1, 0]", 2, "should be greater than 0"),
    "a duplicate key": ("seeds: 2\nset: {}\nseeds: 3", 3, "'seeds' is given twice, first on line 1"),
    "a setting in two forms": ("set:\n  model.heads: 4\n  model: {heads: 4}", 3, "is set twice here"),
    "an empty grid": ("seeds: 2\ngrid: {}", 2, "the grid is empty"),
    "a grid of nothing": ("seeds: 2\ngrid:", 2, "the grid is empty"),
    "an empty list in the grid": ("grid:\n  model.heads: []", 2, "'model.heads' needs a list of values"),
    "a grid without lists": ("grid:\n  model.heads: 4", 2, "'model.heads' needs a list of values"),
    "a wrong value in the grid": ("grid:\n  train.lr:\n    - 1e-3\n    - x", 4, 'train.lr: "x" does not fit'),
    "a variant against the grid": (
        "variants:\n  a: {train.lr: 1}\ngrid: {train.lr: [1]}", 2, "keep one of the two"
    ),
    "set against the grid": ("set:\n  train.lr: 1\ngrid: {train.lr: [1]}", 2, "keep one of the two"),
    "too many points": (f"grid: {{train.lr: {TEN}, losses.vq: [{'1, ' * 2000}1]}}", 1, "20,010 cells"),
    "too many seeds": ("folds: 1\nseeds: 10001", 2, "10,001 cells are more than the limit of 10,000"),
    "too many cells": (f"seeds: 5000\ngrid: {{train.lr: {TEN}}}", 1, "50,000 cells"),
    "tabs": ("set:\n\ttrain.lr: 1", 2, "tab used for indentation: use spaces"),
    "a recursive alias": ("seeds: 2\nset: &a\n  model: *a", 3, "alias *a stands inside what it names"),
    "a python tag": ("seeds: 2\nset: !!python/object:os.system {}", 2, "tags are not allowed"),
    "a missing base": ("seeds: 2\nbase: base/spr.yaml", 2, "did you mean 'base/spar.yaml'?"),
    "a missing base far away": ("seeds: 2\nbase: /nowhere/spar.yaml", 2, "did you mean 'base/spar.yaml'?"),
    "a base that is the sweep itself": ("seeds: 2\nbase: x.yaml", 2, "base is this very file"),
    "a base of a name without an end": (f"base: {'x' * 5000}", 1, "[...]"),
    "a base whose name is no name": ('base: "a\\0b"', 1, "base file 'a\\x00b' does not exist"),
    "a base that is no path": ("base: 3", 1, "base is the path of a YAML file, not 3"),
    "no variant": ("seeds: 1\nvariants: {}", 2, "variants is a mapping"),
    "a variant's name of two lines": ('variants:\n  "a\\nb": {}', 2, "a variant's name is one line"),
    "a variant's name that looks like another": ('variants: {" a": {}, a: {}}', 1, "not ' a'"),
    "a variant's name without an end": (f"variants: {{{'x' * 101}: {{}}}}", 1, "(100 letters at most)"),
    "a variant's name that colours a screen": ('variants: {"\\e[31mred": {}}', 1, "not '\\x1b[31mred'"),
    "a word that colours a screen": ('"\\e[31mseeds": 1', 1, "unknown word '\\x1b[31mseeds'"),
    "a variant that is named as another's grid point": (
        "set: {model.guidance.attention: one_way}\ngrid: {model.guidance.layers: [1, 2]}\nvariants:\n"
        '  "a layers=2": {model.guidance.attention: none}\n  a: {}',
        3, "two rows would be named 'a layers=2'",
    ),
    "an unknown reference": ("variants: {one: {}, two: {}}\nreference: tow", 2, "did you mean 'two'?"),
    "an unknown row in contrasts": (
        "variants: {one: {}, two: {}}\ncontrasts:\n  - [one, two]\n  - [one, tow]", 4, "did you mean 'two'?"
    ),
    "contrasts without pairs": ("variants: {a: {}, b: {}}\ncontrasts: [a, b]", 2, "two rows, not 'a'"),
    "an unknown variant in exclude": ("variants: {one: {}}\nexclude: [{variant: on}]", 2, "mean 'one'?"),
    "exclude that excludes nothing": ("exclude:\n  - {model.heads: 8}", 2, "this entry excludes nothing"),
    "exclude of a wrong type": ('exclude:\n  - {model.heads: "4"}', 2, "a valid integer"),
    "exclude that leaves nothing": ("exclude:\n  - {model.heads: 4}", 1, "nothing is left to run"),
    "a thousand million seeds": ("seeds: 1000000000", 1, "1,000,000,000 cells are more than"),
    "a thousand million seeds as a float": ("seeds: 1e9", 1, "not 1000000000.0"),
    "seeds of five thousand digits": (f"seeds: {'9' * 5000}", 1, "or too large for one"),
    "a seed that numpy can't take": ("seeds: [1, 4294967296]", 1, "seeds go up to 4,294,967,295, not 4,294"),
    "a thousand million folds": ("folds: 1000000000", 1, "1,000,000,000 cells are more than"),
    "a fold far out of range": ("folds: [1000000000]", 1, "fold 1000000000 is asked for"),
    "a value as long as its file": (f"seeds: {'x' * 100_000}", 1, "xxx [...] xxx"),
    "a grid of a thousand millions": (
        f"grid: {{{', '.join(f'losses.{n}: {list(range(1, 1001))}' for n in ('vq', 'spread', 'shape'))}}}",
        1, "1,000,000,000 cells are more than the limit of 10,000",
    ),
    "no seed": ("seeds: 0", 1, "seeds is a number from 1 or a list of different numbers, not 0"),
    "true for seeds": ("seeds: true", 1, "not True"),
    "a seed twice": ("seeds: [1, 2, 1]", 1, "not [1, 2, 1]"),
    "a fold below zero": ("folds: [-1]", 1, "not [-1]"),
    "a fold of the official split": ("folds: 2", 1, "the data's last one is 0"),
    "a fold out of range": (f"set: {SPAR}\nfolds: [0, 5]", 2, "fold 5 is asked for"),
    "rows with folds of their own": (
        f"set: {SPAR}\nvariants:\n  a: {{}}\n  b: {{data.folds: 3}}", 4, "data.folds is one for all",
    ),
    "random windows of their own": (
        f"set: {LEAKY}\nvariants:\n  a: {{}}\n  b: {{data.window_s: 2}}",
        4, "data.window_s is one for all",
    ),
    "cut windows without a length": ("set:\n  data.name: spar", 2, "spar needs data.window_s"),
    "pre-cut windows cut again": ("set:\n  data.window_s: 4", 2, "leave out data.window_s"),
    "a split that the data has not": (
        f"set: {OFFICIAL}", 1, "set data.split to subject_kfold or leave_one",
    ),
    "subjects that nobody knows": ("set:\n  data.split: subject_kfold", 2, "set data.split to official"),
    "a data set that is not there": (
        "set:\n  data.name: uea:RacketSports", 2, "data/RacketSports: get it from https://timeseries",
    ),
    "a data set far away": ('set: {data.name: "csv:../x"}', 1, "should match pattern"),
    "a data set without an end": (f"set: {{data.name: 'csv:{'x' * 300}'}}", 1, "xxx: get it from your own"),
    "a bank far away": (
        "set:\n  model.guidance.attention: one_way\n  text.bank: ../x", 3, "should match pattern",
    ),
    "an encoder that is not there": (
        "set:\n  model.guidance.attention: one_way\n  text.encoder: hf:no/where", 3, "no such folder",
    ),
    "an encoder of two lines": (
        'set:\n  model.guidance.attention: one_way\n  text.encoder: "hf:a\\nb"', 3, "hf:a b: no such folder",
    ),
    "an unknown data set": ("set:\n  data.name: spor", 2, "did you mean 'spar'?"),
    "unequal series without a length": ("set:\n  data.name: japanese_vowels", 2, "set data.length"),
    "rotation without axes": (
        "set:\n  data.name: gun_point\n  data.augment.rotation_deg: 9", 3, "turns x, y and z",
    ),
    "a data set without a bank": (
        "set:\n  data.name: gun_point\n  model.guidance.attention: one_way", 3, "no text bank gun_point",
    ),
    "captions of a turned window": (
        "set:\n  data.augment.rotation_deg: 9\n  model.guidance.attention: one_way\n  text.source: series", 4,
        "set it to 0",
    ),
    "captions of a few steps": (
        f"set: {SPAR}\nvariants:\n  a:\n    data.window_s: 0.1\n    model: {{patches: 5, tokens: 5}}\n"
        "    model.guidance.attention: one_way\n    text.source: series", 7, "need windows of 8 steps",
    ),
    "captions of resampled series": (
        "set:\n  data: {name: japanese_vowels, length: 20}\n  model.guidance.attention: one_way\n"
        "  text.source: series", 4, "set data.resize to pad",
    ),
    "an unknown primary": ("primary: token", 1, "did you mean 'tokens'?"),
    "two data sets": (
        f"set: {SPAR}\nvariants:\n  a: {{}}\n  b:\n    data: {{split: official, window_s: null,"
        " overlap_frac: null,\n      name: basic_motions}", 6, "data.name is one for all",
    ),
    "consistency without guidance": (
        "variants:\n  a: {}\n  b:\n    train.epochs: 3\n    losses.consistency: 1\n    losses.vq: 1",
        5, "set model.guidance.attention to one_way or two_way",
    ),
    "contrast without info_nce": (
        "set:\n  model.guidance.attention: two_way\nvariants:\n  b:\n    model.guidance.merge: contrast",
        5, "losses.info_nce",
    ),
    "a pair that fails at one grid point": ("grid:\n  model.heads:\n    - 4\n    - 5", 4, "try [2, 4, 8]"),
    "two settings of which the last is blamed": (
        "variants:\n  a:\n    model.width: 60\n    model.heads: 8\n    train.lr: 1", 4, "try [5, 6, 10]"
    ),
    "windows that do not divide": (f"set: {SPAR}\nvariants:\n  a: {{model.patches: 7}}", 3, "try [4, 5, 8]"),
    "a control that no text meets": (
        "variants:\n  a:\n    losses.ce_series: 1\n    text.control: constant", 4, "has no effect"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sweep_file_ends_in_one_line_with_file_and_line_and_status_2(
    refused: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "spar.yaml").write_text("model.heads: 4\n")
    text, line, part = BROKEN[name]
    file, number, message = refused(text)
    assert (file, number) == ("x.yaml", line), message
    assert part in message


def test_every_verb_refuses_a_broken_sweep_file(refused: Any) -> None:
    for verb in ("plan", "run", "status", "table"):
        assert refused("set:\n  model.hads: 4", verb)[1] == 2


@pytest.mark.parametrize(
    ("base", "line", "part"),
    [
        ("model:\n  patches: 10\n  hads: 4\n", 3, "did you mean 'model.heads'?"),
        ("model:\n  patches: 10\n  heads: '4'\n", 3, "a valid integer"),
        ("model:\n  heads: 5\n  patches: 10\n", 2, "model.heads 5 do not divide model.width 64"),
        ("data:\n  name: spar\n  folds: 5\n", 2, "spar needs data.window_s and data.overlap_frac"),
        ("model.heads: 4\nseeds: 3\n", 2, "`seeds` belongs in the sweep file"),
        ("# nothing\n", None, "the file is empty"),
        ("model:\n\theads: 4\n", 2, "tab used for indentation"),
    ],
)
def test_an_error_inside_the_base_file_has_its_name_and_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], base: str, line: int | None, part: str
) -> None:
    (tmp_path / "b.yaml").write_text(base)
    (tmp_path / "x.yaml").write_text("base: b.yaml\nvariants: {a: {train.lr: 1}}\n")
    with pytest.raises(SystemExit) as stop:
        cli.app(["plan", str(tmp_path / "x.yaml"), "--store", str(tmp_path / "store")])
    (error,) = capsys.readouterr().err.splitlines()
    place = f"{tmp_path / 'b.yaml'}" + ("" if line is None else f":{line}")
    assert stop.value.code == 2 and error.startswith(f"{place}: ") and part in error


def test_a_setting_that_spoils_a_sound_base_is_blamed_itself(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("model.guidance.attention: one_way\nlosses.consistency: 0.1\n")
    text = "base: b.yaml\nvariants:\n  a: {}\n  b:\n    model.guidance.attention: none\n    train.lr: 1\n"
    file, line, message = refused(text)
    assert (file, line) == ("x.yaml", 5) and "losses.consistency" in message


def test_a_missing_or_an_empty_sweep_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quick.yaml").write_text("# a question and no sweep\n")
    for name, message in (("quick", "the file is empty"), ("quik", "no such file, did you mean")):
        with pytest.raises(SystemExit) as stop:
            cli.app(["plan", str(tmp_path / f"{name}.yaml"), "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        assert stop.value.code == 2 and printed.out == "" and len(printed.err.splitlines()) == 1
        assert printed.err.startswith(f"{tmp_path / name}.yaml: {message}")


@pytest.mark.parametrize("role", ["sweep", "base"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "cannot be read: Is a directory"),
        ("pipe", "cannot be read: not a regular file"),
        ("device without an end", "cannot be read: not a regular file"),
        ("link to nowhere", "is a link to nowhere.yaml, which is not there"),
        ("link to itself", "cannot be read: Too many levels of symbolic links"),
        ("ten megabytes", "cannot be read: larger than 400 kB"),
        ("a hole of a terabyte", "cannot be read: larger than 400 kB"),
        ("UTF-16", "this is not plain UTF-8 text: '\\udcff'"),
        ("a million keys", "over 20,000 values or 64 levels, aliases written out"),
    ],
)
def test_what_is_no_file_of_yaml_is_refused_before_it_takes_time_or_memory(
    tmp_path: Path, role: str, kind: str, message: str
) -> None:
    path = tmp_path / "odd.yaml"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device without an end":
            path.symlink_to("/dev/zero")
        case "link to nowhere":
            path.symlink_to("nowhere.yaml")
        case "link to itself":
            path.symlink_to(path)
        case "ten megabytes":
            path.write_text("# x\n" * 2_500_000)
        case "a hole of a terabyte":
            path.touch()
            os.truncate(path, 10**12)
        case "UTF-16":
            path.write_text("seeds: 1\n", encoding="utf-16")
        case "a million keys":
            path.write_text("\n".join(f"k{i}: 1" for i in range(30_000)))
    (tmp_path / "sweep.yaml").write_text("seeds: 1\nbase: odd.yaml\n")
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
    script += "from experiments.cli import app; app()"
    file = path if role == "sweep" else tmp_path / "sweep.yaml"
    words = ["plan", str(file), "--store", str(tmp_path / "store")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=20)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith((f"{path}: ", f"{path}:", f"{tmp_path}/sweep.yaml:2: ")) and line.endswith(message)


@pytest.fixture
def shapelex(tmp_path: Path) -> Any:
    """The real command line, where any import of something heavy ends in a traceback and status 1."""
    for name in HEAVY:
        (tmp_path / "poison" / name).mkdir(parents=True)
        (tmp_path / "poison" / name / "__init__.py").write_text("raise SystemError('imported')")

    def shapelex(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "poison")}
        command = [sys.executable, "-m", "experiments.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return shapelex


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_broken_sweep_file_ends_a_real_command_before_anything_heavy_is_imported(
    shapelex: Any, tmp_path: Path, verb: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# Does it help?\nset:\n  model.guidance.inot: [z]\n")
    done = shapelex(verb, str(path), "--store", str(tmp_path / "store"))
    hint = "unknown setting 'model.guidance.inot': did you mean 'model.guidance.into'?"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{path}:3: {hint}\n")
    assert not (tmp_path / "store").exists()
