"""What a finished trial's model is asked afterwards: how it stands disturbances, how much of the class its
reconstruction keeps, and what its codes mean. `evaluation.json` in the trial's folder, beside the result that
it belongs to, and `lexicon.npz`.

Test windows are read here once more, by frozen models alone: nothing is fitted to them or chosen by them.
Texts name codes, and enter no score.
"""

from pathlib import Path
from typing import Any, NamedTuple

from experiments import classifier, data, lexicon, meaning
from experiments.config import AugmentConfig, DataConfig, RunConfig, TrainConfig
from experiments.data.windows import triads
from experiments.execute import Job
from experiments.fcn import load_fcn
from experiments.identity import signature
from experiments.ledger import Store, read_json, write_json
from experiments.plan import Sweep
from experiments.robustness import Sensors, curves
from experiments.survival import survival
from experiments.threads import limited
from experiments.watch import EVALUATION as FILE
from experiments.watch import of_try
from model import checkpoint

SCHEMA = 3
JUDGE_EPOCHS = 40  # at most: a network that classifies raw windows is trained long before a core is


class Judge(NamedTuple):
    """The trial of the network that reads rebuilt windows: one for all rows and seeds of a fold."""

    signature: str
    config: RunConfig
    digests: dict[str, str | None]


def judges(sweep: Sweep) -> dict[str, Judge | None]:
    """By trial of the sweep, who reads the windows that it rebuilds: an FCN on the same raw training windows,
    unaugmented. The sweep's own where it has such a row (of several rows and seeds the first), else one with
    the seed and the training settings of its first core, for JUDGE_EPOCHS at most. None for a trial that
    rebuilds none."""
    planned = [s for s in dict.fromkeys(cell.signature for cell in sweep.cells) if s not in sweep.waiting]
    configs = {name: sweep.configs[name] for name in planned}
    by_data: dict[str, Judge] = {}
    for name, config in configs.items():
        if config.baseline == "fcn" and config.data == _raw(config):
            by_data.setdefault(config.data.model_dump_json(), Judge(name, config, sweep.digests[name]))
    out: dict[str, Judge | None] = {}
    first = next((config for config in configs.values() if config.baseline == "none"), None)
    for name, config in configs.items():
        out[name] = None
        if first is not None and config.baseline == "none":
            raw, digests = _raw(config), {"text": None, "encoder": None, "data": sweep.digests[name]["data"]}
            made = RunConfig(
                data=raw, train=_short(first.train), baseline="fcn", seed=first.seed, threads=first.threads
            )
            out[name] = by_data.setdefault(
                raw.model_dump_json(), Judge(signature(made, digests), made, digests)
            )
    return out


def _short(train: TrainConfig) -> TrainConfig:
    return train.model_copy(update={"epochs": min(train.epochs, JUDGE_EPOCHS)})


def _raw(config: RunConfig) -> DataConfig:
    return config.data.model_copy(update={"augment": AugmentConfig()})


def trained(store: Store, judge: Judge) -> bool:
    """Whether the judge has its result; `load_fcn` says whether its weights are there."""
    result = store.result(judge.signature)
    return result is not None and result["status"] == "done"


def stamp(store: Store, name: str) -> dict[str, Any]:
    """`of_try` of a trial's present result."""
    return of_try(store.result(name) or {})


def current(store: Store, name: str, judge: Judge | None) -> bool:
    """Whether the trial's evaluation is there, of its present result and by the judge's present one."""
    found = read_json(store.trial(name) / FILE)
    asked = {"schema": SCHEMA, **stamp(store, name), "judge": judge and stamp(store, judge.signature)}
    return isinstance(found, dict) and found.items() >= asked.items()


def evaluate(jobs: list[Job], own_process: bool) -> str | None:
    """One finished trial, and its judge where there is one; one of `trial.CALLS`. Raises ValueError or
    OSError where a model is broken or missing."""
    job, *judges = jobs
    store = Store(Path(job.store))
    folder, of = store.trial(job.signature), stamp(store, job.signature)
    config = RunConfig.model_validate(job.config)
    with limited(config.threads):
        loaded = data.load_split(config.data, str(job.digests["data"]), store.cache)
        training, _, test = loaded.sides(job.device)
        sensors = Sensors(training.moments.std, list(triads(loaded.channels).values()))
        metrics = curves(classifier.load(folder, job.device), test, loaded.split.test, sensors)
        if config.baseline == "none" and config.model.quantizer != "none":
            metrics |= meaning.measure(lexicon.of(store, job.signature, job.device))
        read_by = None
        for one in judges:
            read_by = stamp(store, one.signature)
            network = load_fcn(store.trial(one.signature) / "model").to(job.device)
            metrics |= survival(checkpoint.from_pretrained(folder / "model").to(job.device), network, test)
    found = {"schema": SCHEMA, **of, "judge": read_by, "code": job.code, "metrics": metrics}
    write_json(folder / FILE, found)
    return None
