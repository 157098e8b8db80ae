"""Windows of one's own in an .npz file: values by hand, and every refusal."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import cli, data
from experiments.config import DataConfig, RunConfig
from experiments.data import npz
from experiments.data.windows import DataError


def geneactiv(**changes: Any) -> dict[str, Any]:
    """12 windows of a wrist-worn sensor: six people, two windows each."""
    arrays = {
        "series": np.arange(12 * 3 * 500, dtype=np.float64).reshape(12, 3, 500) / 1000,
        "label": np.arange(12) % 7,
        "classes": np.array([f"activity {i}" for i in range(7)]),
        "channels": np.array(["wrist_acc_x", "wrist_acc_y", "wrist_acc_z"]),
        "subject": np.repeat([4, 8, 15, 16, 23, 42], 2),
        "session": np.repeat(["a", "c", "b", "e", "d", "f"], 2),
        "official": np.repeat([0, 1], [8, 4]),
        "rate_hz": np.array(100.0),
        "placement": np.array("a GENEActiv on the wrist"),
        "units": np.array(["acc=g"]),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def refused(root: Path, **changes: Any) -> str:
    np.savez_compressed(root / "mine.npz", **geneactiv(**changes))
    with pytest.raises(DataError) as error:
        entry = npz.find("mine", root)
        entry.read(entry.files(root), DataConfig(name="npz:mine"))
    message = str(error.value)
    assert message.startswith(f"{root / 'mine.npz'}: array ") and "\n" not in message
    return message.partition(": array ")[2]


@pytest.mark.parametrize(("classes", "steps"), [(7, 500), (14, 1000)])
def test_windows_of_ones_own_go_through_the_cache_and_folds_of_subjects(
    root: Path, tmp_path: Path, classes: int, steps: int
) -> None:
    series = np.random.default_rng(0).normal(size=(28, 3, steps)).astype(np.float32)
    arrays = geneactiv(
        series=series,
        label=np.arange(28) % classes,
        classes=np.array([f"activity {i}" for i in range(classes)]),
        subject=np.repeat(np.arange(1, 8), 4),
        session=None,
        official=None,
    )
    np.savez_compressed(root / f"geneactiv-{classes}.npz", **arrays)
    config = DataConfig(name=f"npz:geneactiv-{classes}", split="subject_kfold", folds=3)
    loaded = data.load_split(config, "digest", tmp_path / "cache")
    assert np.array_equal(loaded.windows.series, series)
    assert loaded.about["rate_hz"] == 100 and loaded.about["units"] == {"acc": "g"}
    assert loaded.about["placement"] == "a GENEActiv on the wrist" and len(loaded.classes) == classes
    assert loaded.windows.session.tolist() == list(range(28))
    sides = [set(loaded.subjects(side)) for side in ("train", "val", "test")]
    assert sum(map(len, sides)) == 7 and set.union(*sides) == set(range(1, 8))
    assert loaded.about["amount"] == {str(subject): 4 for subject in range(1, 8)}


def test_what_an_npz_file_says_is_found_without_reading_its_series(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(root / "mine.npz", **geneactiv())
    opened: list[str] = []
    read = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda file, name: (opened.append(name), read(file, name))[1]
    )
    entry = npz.find("mine", root)
    assert entry.kind == "windows" and entry.samples == 500 and entry.subjects == 6 and entry.official
    assert entry.triads() == {"wrist": [[0, 1, 2]]}
    assert "label" in opened and "series" not in opened


def test_a_run_on_an_npz_file_is_checked_against_what_it_says(root: Path) -> None:
    np.savez(root / "mine.npz", **geneactiv())
    config = {"name": "npz:mine", "split": "subject_kfold", "folds": 3, "augment": {"rotation_deg": 10}}
    data.check(RunConfig.model_validate({"data": config, "baseline": "statistics"}))
    with pytest.raises(ValueError, match=r"folds 7 is above the 6 subjects of npz:mine"):
        data.check(RunConfig.model_validate({"data": config | {"folds": 7}, "baseline": "statistics"}))
    with pytest.raises(ValueError, match=r"^npz:none: no file "):
        data.check(RunConfig.model_validate({"data": config | {"name": "npz:none"}}))


def test_windows_of_one_step_are_refused_in_one_clear_line(root: Path) -> None:
    np.savez(root / "short.npz", series=np.ones((4, 1, 1)), label=np.zeros(4, dtype=int))
    config = {"name": "npz:short", "split": "leaky_random"}
    with pytest.raises(ValueError, match=r"^npz:short has windows of one step, and two are the least$"):
        data.check(RunConfig.model_validate({"data": config, "baseline": "statistics"}))


def test_units_may_be_given_for_a_channel_without_an_axis(root: Path) -> None:
    channels, units = np.array(["light", "acc_x", "acc_y"]), np.array(["light=lux", "acc=g"])
    np.savez(root / "mine.npz", **geneactiv(channels=channels, units=units))
    assert npz.find("mine", root).units == {"light": "lux", "acc": "g"}


def test_an_npz_file_of_series_and_labels_alone_is_enough(root: Path) -> None:
    np.savez(root / "bare.npz", series=np.ones((4, 2, 5), dtype=np.int16), label=np.uint8([0, 1, 2, 1]))
    entry = npz.find("bare", root)
    assert entry.classes == ("class_0", "class_1", "class_2") and entry.channels == ("channel_1", "channel_2")
    assert entry.subjects == 0 and not entry.official and entry.rate_hz is None
    raw = entry.read(entry.files(root), DataConfig(name="npz:bare", length=3))
    assert raw.windows.series.shape == (4, 2, 3) and raw.windows.series.dtype == np.float32
    assert raw.windows.subject.tolist() == raw.windows.official.tolist() == [-1] * 4
    assert raw.amount == {}


def test_names_of_people_and_recordings_are_numbered_in_their_order(root: Path) -> None:
    np.savez(root / "mine.npz", **geneactiv(subject=np.repeat(["ben", "ann"], 6)))
    entry = npz.find("mine", root)
    windows = entry.read(entry.files(root), DataConfig(name="npz:mine")).windows
    assert windows.subject.tolist() == [1] * 6 + [0] * 6
    assert windows.session.tolist() == np.repeat([0, 2, 1, 4, 3, 5], 2).tolist()
    assert windows.official.tolist() == [0] * 8 + [1] * 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"series": None}, "series: there is no such array"),
        ({"label": None}, "label: there is no such array"),
        ({"subjects": np.arange(12)}, "subjects: unknown; it may hold channels, "),
        ({"series": np.zeros((12, 500))}, "series: 12 x 500 of float64"),
        ({"series": np.zeros((0, 3, 500))}, "series: 0 x 3 x 500"),
        ({"series": np.zeros((12, 3, 5), dtype=complex)}, "series: 12 x 3 x 5 of complex128"),
        ({"series": np.full((12, 3, 5), np.nan)}, "series: window 0 has a value that is no finite"),
        ({"series": np.full((12, 3, 5), 1e300)}, "series: window 0 has a value that is no finite"),
        ({"label": np.arange(11) % 7}, "label: 11, and series has 12 windows"),
        ({"label": np.arange(12.0)}, "label: float64, and should be whole numbers"),
        ({"label": np.arange(12)}, "label: window 7 has 7, and there are 7 classes"),
        ({"label": np.arange(12) - 1}, "label: window 0 has -1"),
        (
            {"label": np.full(12, 2**63, np.uint64)},
            "label: window 0 has 9223372036854775808: the largest is ",
        ),
        ({"label": np.arange(12) - 1, "classes": None}, "label: window 0 has -1, and labels start at 0"),
        (
            {"label": np.delete(np.arange(13), 3), "classes": None},
            "label: no window has label 3: give classes",
        ),
        (
            {"label": np.r_[np.arange(11), 10**7], "classes": None},
            "label: no window has label 11: give classes",
        ),
        ({"label": np.array(["a"] * 12)}, "label: <U1, and should be whole numbers"),
        ({"label": np.array([None] * 12)}, "label: Object arrays cannot be loaded"),
        ({"classes": np.array(["a"] * 7)}, "classes: 'a' is empty or there twice"),
        ({"classes": np.arange(7)}, "classes: int64, and should be a list of text"),
        ({"channels": np.array(["acc_x", "acc_y"])}, "channels: 2 names, and series has 3 channels"),
        ({"subject": np.arange(13)}, "subject: 13, and series has 12 windows"),
        ({"subject": np.arange(12) - 1}, "subject: numbers below 0"),
        ({"session": np.zeros((12, 2), dtype=int)}, "session: 12 x 2, and series has 12 windows"),
        ({"official": np.full(12, 2)}, "official: other numbers than 0"),
        ({"rate_hz": np.array(0.0)}, "rate_hz: should be one number above 0"),
        ({"rate_hz": np.array(np.nan)}, "rate_hz: should be one number above 0"),
        (
            {"units": np.array(["gyro=rad/s"])},
            "units: 'gyro=rad/s' should be sensor=unit, with a sensor of acc",
        ),
        (
            {"units": np.array(["wrist=g"]), "channels": np.array(["wrist_light", "b", "c"])},
            "units: 'wrist=g' should be sensor=unit, with a sensor of b, c, wrist_light",
        ),
        ({"placement": np.array(["a", "b"])}, "placement: should be one text"),
    ],
)
def test_an_npz_file_that_is_not_as_described_is_refused_by_array(
    root: Path, changes: dict[str, Any], said: str
) -> None:
    assert refused(root, **changes).startswith(said)


def test_an_npz_file_that_broke_off_or_is_none_is_refused(root: Path) -> None:
    path = root / "mine.npz"
    np.savez(path, **geneactiv())
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"no \.npz file of numpy, or it isn't whole"):
        npz.find("mine", root)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("series.npy", b"nothing")
        archive.writestr("label.npy", b"nothing")
    with pytest.raises(DataError, match=r"mine.npz: array series: "):
        npz.find("mine", root)
    with pytest.raises(FileNotFoundError, match=r"^no file .*none.npz: .*experiments/data/npz.py"):
        npz.find("none", root)


def test_a_malformed_file_ends_a_launch_in_one_line_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAPELEX_DATA", str(tmp_path))
    series = np.random.default_rng(0).standard_normal((40, 3, 50)).astype(np.float32)
    series[7, 1, 3] = np.nan
    np.savez(tmp_path / "broken.npz", series=series, label=np.arange(40) % 4)
    sweep = tmp_path / "x.yaml"
    sweep.write_text("set: {data: {name: 'npz:broken', split: leaky_random}}\n")
    data._of_family.cache_clear()
    with pytest.raises(SystemExit) as stop:
        cli.app(["run", str(sweep), "--store", str(tmp_path / "store")])
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == "reading npz:broken\n"
    (line,) = printed.err.splitlines()
    assert line.endswith("broken.npz: array series: window 7 has a value that is no finite float32")
    assert not (tmp_path / "store" / "trials").exists()
