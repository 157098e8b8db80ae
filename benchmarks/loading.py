"""What a trial's windows and texts cost to load, against reading all windows into memory.

Prints (a) the memory that the three sides of 100,000 windows x 9 channels x 512 steps and the first steps of
an epoch add, against a copy of the array; (b) the seconds that a cached SPAR fold and its captions take,
against parsing and encoding them anew.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from experiments import data, encoder
from experiments.config import DataConfig, RunConfig
from experiments.data.windows import Windows
from experiments.execute import Job
from experiments.identity import FileDigests
from experiments.lit import TrainingSet
from experiments.texts import Text, read_text
from experiments.words import read_words

STEPS = 50


def resident_mb() -> float:
    """Memory of this process that is no file: pages of a mapped file can go at any time."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def big(folder: Path, windows: int) -> Windows:
    shape = (windows, 9, 512)
    series = np.lib.format.open_memmap(folder / "series.npy", "w+", np.float32, shape)
    part = np.random.default_rng(0).standard_normal((1000, *shape[1:]), dtype=np.float32)
    for first in range(0, windows, 1000):
        series[first : first + 1000] = part[: windows - first]
    series.flush()
    each = np.arange(windows)
    mapped = np.load(folder / "series.npy", mmap_mode="r")
    return Windows(mapped, each % 6, each % 30, each, np.full(windows, -1, np.int8))


def memory(windows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = big(Path(folder), windows)
        config = DataConfig(split="subject_kfold", folds=5)
        amount = {subject: windows // 30 for subject in range(30)}
        train = RunConfig.model_validate(
            {"model": {"patches": 64, "tokens": 64}, "train": {"batch_size": 32}}
        )
        before, began = resident_mb(), time.perf_counter()
        loaded = data.Loaded({}, found, data.split(found, amount, config))
        sides = loaded.sides("cpu")
        _ = sides[0].moments
        built = time.perf_counter() - began
        added = resident_mb() - before
        steps = TrainingSet(train, sides[0], Text()).epoch(0)
        began = time.perf_counter()
        for _ in range(min(STEPS, len(sides[0]) // 32)):
            next(steps)
        a_step = (time.perf_counter() - began) / STEPS
        stepped = resident_mb() - before
        copy = np.array(found.series)
        copied = resident_mb() - before
        del copy, steps
    print(
        f"{windows:,} windows x 9 x 512: sides and moments in {built:.1f} s add {added:.0f} MB, "
        f"{stepped:.0f} MB with {STEPS} steps of {1e3 * a_step:.1f} ms"
    )
    print(f"a copy of the array: {copied - stepped:.0f} MB, ratio {(copied - stepped) / stepped:.1f}")


def seconds(repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache, files = Path(folder) / "cache", FileDigests(Path(folder))
        config = RunConfig.model_validate(
            {
                "data": {"name": "spar", "window_s": 4, "overlap_frac": 0.5, "split": "subject_kfold"},
                "text": {"source": "series"},
                "model": {"guidance": {"attention": "one_way"}, "patches": 25, "tokens": 25},
            }
        )
        digests = {
            "data": data.data_digest(files.of(data.entry("spar").files(data.root()))),
            "text": read_words(config).digest,
            "encoder": files.of(encoder.files("minilm")),
        }
        job = Job("0" * 16, config.model_dump(mode="json"), digests, folder, "cpu", "", 0.0)
        took = []
        for _ in range(1 + repeats):
            began = time.perf_counter()
            loaded = data.load_split(config.data, str(digests["data"]), cache)
            text = read_text(config, job, loaded)
            took.append(time.perf_counter() - began)
        assert text.assignment is not None
        print(
            f"SPAR's first fold and its {len(text.assignment.texts)} captions: anew {took[0]:.1f} s, "
            f"cached {min(took[1:]):.2f} s: ratio {took[0] / min(took[1:]):.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-texts", action="store_true", help="(a) alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory(args.windows)
    if not args.skip_texts:
        seconds(args.repeats)


if __name__ == "__main__":
    main()
