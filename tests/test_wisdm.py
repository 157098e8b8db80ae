"""WISDM's raw file with its known faults: what is taken, what is skipped, and where recordings are parted."""

from pathlib import Path

import numpy as np
import pytest
import raw_files_fixture as make
from raw_files_fixture import fails

from experiments import data
from experiments.config import DataConfig
from experiments.data import wisdm

FAULTY = """33,Jogging,49105962326000,-0.6946377,12.680544,0.50395286;
33,Jogging,49106012326000,5.012288,11.264028,0.95342433;33,Jogging,49106062326000,1,2,3;

33,Jogging,49106112326000,4.903325,10.882658,-0.08172209
33,Jogging,49106162326000,0.1,0.2,0.3,;
33,Jogging,49106212326000,0.1,0.2,;
33,Jogging,49106262326000,1.5,-2,3e-1,33,Jogging,49106312326000,7,8,9;
33,Walking,0,0,0,0;
33,Walking,49108312326000,1,1,1;
33,Walking,49107312326000,2,2,2;
17,Standing,49107362326000,-3,-3,-3;
"""


def test_wisdm_takes_every_record_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    filler = "".join(f"1,Sitting,{10**12 + 50_000_000 * t},0,9.8,0;\n" for t in range(100))
    found = wisdm.records(make.wisdm(tmp_path, FAULTY + filler))
    assert found.unreadable == 1 and found.timeless == 1
    assert len(found.user) == 10 + 100
    assert found.acceleration[:7].tolist() == pytest.approx(
        np.float32(
            [
                [-0.6946377, 12.680544, 0.50395286],
                [5.012288, 11.264028, 0.95342433],
                [1, 2, 3],
                [4.903325, 10.882658, -0.08172209],
                [0.1, 0.2, 0.3],
                [1.5, -2, 0.3],
                [7, 8, 9],
            ]
        )
    )
    assert found.user[7:11].tolist() == [33, 33, 17, 1]
    assert [wisdm.CLASSES[label] for label in found.label[[0, 7, 9, 10]]] == [
        "jogging",
        "walking",
        "standing",
        "sitting",
    ]


def test_wisdm_parts_recordings_by_person_by_gaps_and_where_time_runs_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(user: int, start_ms: int, count: int, activity: str = "Walking") -> str:
        return "".join(f"{user},{activity},{(start_ms + 50 * t) * 10**6},{t},0,0;\n" for t in range(count))

    starts = (1000, 2000, 500)  # with 5 samples of 50 ms each: after 0.8 s, then back
    parts = [run(user, start, 5) for user in range(1, 7) for start in starts]
    parts += [run(6, 2000, 5), run(6, 2250, 3, "Sitting")]
    make.wisdm(tmp_path, "".join(parts))
    monkeypatch.setenv("SHAPELEX_DATA", str(tmp_path))
    config = DataConfig(name="wisdm", window_s=0.2, overlap_frac=0.5, split="subject_kfold", folds=3)
    loaded = data.load_split(config, "digest", tmp_path / "cache")
    windows = loaded.windows
    # 10 samples 0.8 s apart are one recording: starts 0, 2, 4, 6 of 4 samples; 5 samples: start 0
    assert windows.series.shape == (6 * 5 + 1, 3, 4)
    assert windows.series[:5, 0].tolist() == [
        [0, 1, 2, 3],
        [2, 3, 4, 0],
        [4, 0, 1, 2],
        [1, 2, 3, 4],
        [0, 1, 2, 3],
    ]
    assert windows.session.tolist() == np.repeat(range(13), [4, 1] * 6 + [1]).tolist()
    assert loaded.about["amount"]["6"] == 23
    assert all(len(loaded.subjects(side)) == 2 for side in ("train", "val", "test"))


def test_another_file_in_the_place_of_wisdm_is_refused_with_its_first_odd_line(tmp_path: Path) -> None:
    good = "33,Jogging,49105962326000,-0.6946377,12.680544,0.50395286;\n"
    path = make.wisdm(
        tmp_path, 20 * good + "user,activity,timestamp,x,y,z\n" + 3 * good + "1600,A,252,1,2,3;\n"
    )
    message = fails(lambda: wisdm.records(path))
    assert message == f"{path}:21: 2 of 25 records can't be read: is this the raw file of WISDM v1.1?"
    path.write_text("\n")
    assert fails(lambda: wisdm.records(path)) == f"{path}: this file is empty"
    path.write_text(20 * good + "1,2,3,4,5,6,7,8,9\n" + "1,2,3,4,5,6,7,8,9\n")
    assert "2 of 22 records" in fails(lambda: wisdm.records(path))
    path.write_text("1,2,3,4,5,6,7,8,9\n" + 20 * good)
    assert wisdm.records(path).unreadable == 1
