"""BasicMotions: one smart watch, four motions, 10 s at 10 Hz; the copy inside aeon.

40 training and 40 test windows. Who wore the watch in which window is not published.
"""

from functools import partial

from experiments.data.archive import inside_aeon, read_ts
from experiments.data.windows import DataSet

CLASSES = ("badminton", "running", "standing", "walking")


BASIC_MOTIONS = DataSet(
    name="basic_motions",
    kind="windows",
    classes=CLASSES,
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    rate_hz=10,
    samples=100,
    subjects=0,
    official=True,
    placement="a smart watch on the wrist",
    licence="UEA archive, free for research",
    citation="Bagnall et al. 2018, The UEA multivariate time series classification archive, arXiv 1811.00075",
    origin="package aeon",
    files=lambda root: inside_aeon("BasicMotions"),
    read=partial(read_ts, CLASSES),
)
