"""Recordings of one's own as CSV files: values by hand, and every refusal."""

from pathlib import Path

import pytest

from experiments import data
from experiments.config import DataConfig
from experiments.data import csv_files
from experiments.data.windows import DataError
from experiments.signals import Sensor, unit

ABOUT = """rate_hz: 10
classes: [walk, sit]
units: {acc: g}
placement: a watch on the wrist
"""
LISTED = """file,subject,label,age_years,height_cm,weight_kg,hand
a.csv,ann,walk,31,170,60.5,left
b/c.csv,ben,,40,,,
d.csv,cat,sit,,,,
e.csv,ann,sit,,,,left
"""


def recording(values: list[float], labels: list[str] | None = None) -> str:
    """acc_x is the value, acc_y its double; with or without a label for each."""
    head = "acc_y,acc_x,label\n" if labels else "acc_x,acc_y\n"
    rows = (
        [f"{2 * v},{v},{name}" for v, name in zip(values, labels, strict=True)]
        if labels
        else [f"{v},{2 * v}" for v in values]
    )
    return head + "".join(f"{row}\n" for row in rows)


@pytest.fixture
def folder(root: Path) -> Path:
    folder = root / "own"
    (folder / "b").mkdir(parents=True)
    (folder / "about.yaml").write_text(ABOUT)
    (folder / "recordings.csv").write_text(LISTED)
    (folder / "a.csv").write_text(recording([0, 1, 2, 3, 4]))
    labels = ["walk", "walk", "", "sit", "sit", "sit", "sit"]
    (folder / "b" / "c.csv").write_text(recording([10, 11, 12, 13, 14, 15, 16], labels))
    (folder / "d.csv").write_text("\ufeff" + recording([20, 21]).replace("\n", "\r\n"))
    (folder / "e.csv").write_text(recording([30, 31]))
    return folder


CSV = DataConfig(name="csv:own", window_s=0.2, overlap_frac=0, split="subject_kfold", folds=3)


def test_recordings_of_ones_own_are_cut_by_label_and_split_by_subject(folder: Path, tmp_path: Path) -> None:
    loaded = data.load_split(CSV, "digest", tmp_path / "cache")
    windows = loaded.windows
    assert loaded.channels == ("acc_x", "acc_y")
    x = [[0, 1], [2, 3], [10, 11], [13, 14], [15, 16], [20, 21], [30, 31]]
    assert windows.series[:, 0].tolist() == x
    assert windows.series[:, 1].tolist() == [[2 * a, 2 * b] for a, b in x]
    assert windows.label.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert windows.subject.tolist() == [0, 0, 1, 1, 1, 2, 0]
    assert windows.session.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert loaded.about["amount"] == {"0": 7, "1": 6, "2": 2} and loaded.about["rate_hz"] == 10
    ann = {"age_years": 31.0, "height_cm": 170.0, "weight_kg": 60.5, "hand": "left"}
    assert loaded.about["people"] == {"0": ann, "1": {"age_years": 40.0}}
    assert [len(loaded.subjects(side)) for side in ("train", "val", "test")] == [1, 1, 1]


def test_whole_numbers_of_people_are_kept(folder: Path) -> None:
    (folder / "recordings.csv").write_text("file,subject,label\na.csv,12,walk\nd.csv,7,sit\n")
    entry = csv_files.find("own", folder.parent)
    raw = entry.read(entry.files(folder.parent), CSV)
    assert set(raw.windows.subject) == {7, 12} and entry.subjects == 2
    assert [path.name for path in entry.files(folder.parent)] == [
        "about.yaml",
        "recordings.csv",
        "a.csv",
        "d.csv",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "about.yaml",
            "rate_hz: 10",
            "rate: 10",
            "about.yaml:1: unknown key 'rate': did you mean 'rate_hz'?",
        ),
        ("about.yaml", "rate_hz: 10", "", "about.yaml: no key 'rate_hz'"),
        ("about.yaml", "rate_hz: 10", "rate_hz: fast", "about.yaml:1: rate_hz should be a number above 0"),
        ("about.yaml", "[walk, sit]", "walk", "about.yaml:2: classes should be a list of text"),
        ("about.yaml", "[walk, sit]", "[walk, walk]", "about.yaml:2: a class is empty or there twice"),
        ("about.yaml", "{acc: g}", "g", "about.yaml:3: units should be sensor: unit"),
        ("about.yaml", "{acc: g}", "{gyro: g}", "about.yaml: units: gyro is no sensor: choose from acc"),
        ("about.yaml", "a watch on the wrist", "7", "about.yaml:4: placement should be text"),
        ("about.yaml", "[walk, sit]", "[walk, sit", "about.yaml:"),
        ("recordings.csv", "file,subject", "path,subject", "recordings.csv:1: no column 'file'"),
        (
            "recordings.csv",
            "a.csv",
            "../a.csv",
            "recordings.csv:2: file '../a.csv' should be a file below own",
        ),
        ("recordings.csv", "d.csv", "a.csv", "recordings.csv:4: file 'a.csv' is listed twice"),
        ("recordings.csv", "d.csv,cat", "d.csv,", "recordings.csv:4: no subject"),
        ("recordings.csv", "170", "tall", "recordings.csv:2: height_cm 'tall' should be a number above 0"),
        ("recordings.csv", "60.5,left", "60.5,both", "recordings.csv:2: hand 'both' should be left or right"),
        ("recordings.csv", ",,,,left", ",,,,right", "recordings.csv:5: hand right, and above it was left"),
        ("recordings.csv", "cat,sit,", "cat,sits,", "recordings.csv:4: label 'sits': did you mean 'sit'?"),
        ("recordings.csv", "cat,sit,", "cat,,", "recordings.csv:4: this line and d.csv: neither has a label"),
        ("recordings.csv", "ben,,", "ben,sit,", "recordings.csv:3: this line and b/c.csv: both have a label"),
        (
            "recordings.csv",
            "e.csv,ann,sit,,,,left",
            "e.csv,ann",
            "recordings.csv:5: 2 values, and the header",
        ),
        ("a.csv", "1,2", "1,two", "a.csv:3: 'two' in column acc_y is no finite number"),
        ("a.csv", "1,2", "1,", "a.csv:3: '' in column acc_y is no finite number"),
        ("a.csv", "1,2", "1,nan", "a.csv:3: 'nan' in column acc_y is no finite number"),
        ("a.csv", "1,2", "1,2,3", "a.csv:3: 3 values, and the header has 2"),
        ("a.csv", "0,0", "0,0,0", "a.csv:2: 3 values, and the header has 2"),
        ("a.csv", "4,8\n", "4", "a.csv:6: 1 values, and the header has 2"),
        ("a.csv", "acc_x,acc_y", "acc_x,acc_x", "a.csv:1: two columns are named 'acc_x'"),
        (
            "a.csv",
            "acc_x,acc_y",
            ",acc_x,acc_y",
            "a.csv:1: column 1 has no name (pandas: to_csv(index=False))",
        ),
        ("a.csv", "acc_x,acc_y", "acc_x,acc_y,,", "a.csv:1: column 3 has no name"),
        ("a.csv", "acc_x,acc_y", "time,acc_x,acc_y", "a.csv:1: column 'time': take it out (rate_hz says"),
        ("a.csv", "acc_x,acc_y", "acc_x,Timestamp", "a.csv:1: column 'Timestamp': take it out"),
        ("d.csv", "acc_x,acc_y", "Unnamed: 0,acc_x,acc_y", "d.csv:1: column 'Unnamed: 0': take it out"),
        ("a.csv", "acc_x,acc_y", "acc_x;acc_y", "a.csv:1: columns are separated by ';': use commas"),
        ("a.csv", "acc_x,acc_y", "acc_x\tacc_y", r"a.csv:1: columns are separated by '\t': use commas"),
        (
            "recordings.csv",
            "file,subject,label,age_years,height_cm,weight_kg,hand",
            "file;subject",
            "recordings.csv:1: columns are separated by ';': use commas",
        ),
        (
            "a.csv",
            "acc_x",
            "# 10 Hz\nacc_x",
            "a.csv:1: the first line should name the columns: take out '# 10 ",
        ),
        ("a.csv", "acc_x", "\nacc_x", "a.csv:1: this line is blank, and the first should name the columns"),
        ("a.csv", "acc_x", " \nacc_x", "a.csv:1: this line is blank"),
        ("a.csv", "acc_x", "a\0cc_x", "a.csv:1: this is no text in UTF-8"),
        ("a.csv", "1,2", "1,1e40", "a.csv:3: '1e40' in column acc_y is no finite number"),
        ("a.csv", "1,2", "1,1_000", "a.csv:3: '1_000' in column acc_y is no finite number"),
        ("a.csv", "1,2\n2,4", "1,2\n\n2,x", "a.csv:5: 'x' in column acc_y is no finite number"),
        ("a.csv", "1,2\n2,4", "1,2\n \n2,x", "a.csv:5: 'x' in column acc_y is no finite number"),
        ("b/c.csv", "24,12,", "\n24,12,run", "c.csv:5: label 'run': choose from walk, sit"),
        ("recordings.csv", "d.csv,cat,sit", "\nd.csv,cat,sits", "recordings.csv:5: label 'sits': did you"),
        ("recordings.csv", "a.csv,ann,walk,31", "\n\na.csv,ann,walk,-1", "recordings.csv:4: age_years '-1'"),
        ("d.csv", "acc_x,acc_y\n20,40\n21,42\n", "acc_x,acc_y\n", "d.csv: this file has no sample"),
        ("b/c.csv", "24,12,", "24,12,run", "c.csv:4: label 'run': choose from walk, sit"),
        ("b/c.csv", "24,12,\n", "24,12\n", "c.csv:4: 2 values, and the header has 3"),
        ("b/c.csv", "acc_y", "acc_z", "c.csv:1: acc_z, acc_x, label: a.csv has acc_x, acc_y"),
    ],
)
def test_a_fault_in_ones_own_files_is_one_line_with_its_place(
    folder: Path, file: str, old: str, new: str, said: str
) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        entry = csv_files.find("own", folder.parent)
        entry.read(entry.files(folder.parent), CSV)
    message = str(error.value)
    assert said in message and message.startswith(str(folder)) and "\n" not in message


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_is_refused_without_a_warning(folder: Path) -> None:
    (folder / "a.csv").write_text("acc_x,acc_y\n0,0\n0,-1e40\n")
    entry = csv_files.find("own", folder.parent)
    with pytest.raises(DataError, match=r"a.csv:3: '-1e40' in column acc_y is no finite number"):
        entry.read(entry.files(folder.parent), CSV)


@pytest.mark.parametrize(("encoding", "line"), [("utf-16", 1), ("utf-16-le", 1), ("latin-1", 4)])
def test_a_file_that_is_not_utf_8_is_named_with_its_line(folder: Path, encoding: str, line: int) -> None:
    text = (folder / "b" / "c.csv").read_text().replace("24,12,", "24,12,größer")
    (folder / "b" / "c.csv").write_bytes(text.encode(encoding))
    (folder / "recordings.csv").write_text("file,subject,label\nb/c.csv,ann,\n")
    with pytest.raises(DataError) as error:
        entry = csv_files.find("own", folder.parent)
        entry.read(entry.files(folder.parent), CSV)
    assert str(error.value) == f"{folder / 'b' / 'c.csv'}:{line}: this is no text in UTF-8: save it so"


def test_blank_lines_below_the_header_change_nothing(folder: Path) -> None:
    entry = csv_files.find("own", folder.parent)
    series = entry.read(entry.files(folder.parent), CSV).windows.series
    for file in ("recordings.csv", "a.csv", "b/c.csv"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("\n", "\n\n", 2) + "\n \n")
    again = entry.read(entry.files(folder.parent), CSV).windows.series
    assert len(series) == 7 and again.tolist() == series.tolist()


def test_units_are_by_sensor_and_by_channel_where_it_has_no_axis(folder: Path) -> None:
    for file in ("a.csv", "b/c.csv", "d.csv", "e.csv"):
        text = (folder / file).read_text(encoding="utf-8-sig")
        (folder / file).write_text(text.replace("acc_x", "wrist_light"))
    about = folder / "about.yaml"
    about.write_text(ABOUT.replace("{acc: g}", "{acc: g, wrist_light: lux}"))
    entry = csv_files.find("own", folder.parent)
    sensor = Sensor(entry.channels, entry.units, 10, "")
    assert [unit(sensor, m) for m in range(2)] == ["lux", "g"]
    about.write_text(ABOUT.replace("{acc: g}", "{wrist: lux}"))
    with pytest.raises(DataError, match=r"units: wrist is no sensor: did you mean 'wrist_light'"):
        csv_files.find("own", folder.parent)


def test_a_person_without_a_labelled_sample_is_refused_for_no_fold_could_test_them(folder: Path) -> None:
    (folder / "b" / "c.csv").write_text(recording([1, 2], ["", ""]))
    entry = csv_files.find("own", folder.parent)
    with pytest.raises(DataError, match=r"recordings.csv:3: this person has no sample with a label"):
        entry.read(entry.files(folder.parent), CSV)


def test_a_missing_file_of_ones_own_is_named(folder: Path) -> None:
    (folder / "d.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*d.csv: .*experiments/data/csv_files.py"):
        csv_files.find("own", folder.parent)
    with pytest.raises(FileNotFoundError, match=r"no folder .*other: .*experiments/data/csv_files.py"):
        csv_files.find("other", folder.parent)
