"""Every row of every file in sweeps/ takes a training step, on real windows and real text."""

import time
from pathlib import Path

import pytest
import torch

from experiments import data, trial
from experiments.execute import Job
from experiments.ledger import Store
from experiments.lit import TrainingSet
from experiments.sweep import load
from experiments.texts import read_text
from experiments.train import build

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))
WINDOWS = 8


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_row_of_a_sweep_takes_a_step_and_gives_its_primary_representation(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "smoke")
    sweep = load(path, store)
    first = {cell.row: cell.signature for cell in reversed(sweep.cells)}
    jobs = {
        row: Job(
            s,
            sweep.configs[s].model_dump(mode="json"),
            sweep.digests[s],
            str(store.root),
            "cpu",
            "code",
            time.time(),
        )
        for row, s in first.items()
    }
    trial.prepare(list(jobs.values()), False)
    for row, job in jobs.items():
        config = sweep.configs[job.signature]
        if config.baseline != "none":
            continue
        loaded = data.load_split(config.data, str(job.digests["data"]), store.cache)
        few = loaded.split.train[:: len(loaded.split.train) // WINDOWS][:WINDOWS]
        loaded = loaded._replace(split=loaded.split._replace(train=few))
        text, side = read_text(config, job, loaded), loaded.sides("cpu")[0]
        model = build(config, side, len(loaded.classes), text)
        step = next(TrainingSet(config, side, text).epoch(0))
        losses = model.losses(step.batch, step.table, text.concepts)
        losses["total"].backward()
        assert all(value.isfinite() for value in losses.values()), (row, losses)
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads), row
        model.eval()
        with torch.no_grad():
            x = next(side.split(WINDOWS))
            features = model.features(x, model.tokenize(x))
        assert config.probe.representation in features, row
