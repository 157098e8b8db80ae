"""One trial, from its config to `result.json`. It writes only into its own folder."""

import datetime
import json
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from experiments import baselines, captions, data, figures, metrics
from experiments.config import RunConfig
from experiments.encoder import TextCache
from experiments.identity import digest
from experiments.ledger import SCHEMA, Store, locked, write_bytes, write_json
from experiments.lit import Lit, TrainingSet, fit
from model import checkpoint
from model.streams import stream
from model.text import TextTable
from model.vqshape import GuidedVQShape, Sizes


class Job(NamedTuple):
    """What an executor hands to a trial: plain values that pickle."""

    signature: str
    config: dict[str, Any]
    digests: dict[str, str | None]
    store: str
    device: str
    code: str
    submitted_at: float


class Clock:
    """Where a trial's seconds go. Evaluation inside training counts as evaluation."""

    def __init__(self, submitted_at: float) -> None:
        self.submitted_at, self.evaluate_s, self.train_s = submitted_at, 0.0, 0.0

    def evaluation(self, started: float) -> None:
        self.evaluate_s += time.time() - started

    def cost(self) -> dict[str, float]:
        total = time.time() - self.submitted_at
        return {
            "total_s": total,
            "train_s": self.train_s,
            "evaluate_s": self.evaluate_s,
            "overhead_s": total - self.train_s - self.evaluate_s,
        }


class Loaded(NamedTuple):
    """A trial's windows, raw, with their sides."""

    entry: data.DataSet
    windows: data.Windows
    split: data.Split

    def side(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.windows.series[rows], np.asarray(self.windows.label[rows])

    def describe(self, config: RunConfig) -> dict[str, Any]:
        subjects = {
            f"{side}_subjects": sorted({int(s) for s in self.windows.subject[rows] if s >= 0})
            for side, rows in self.split._asdict().items()
        }
        official = config.data.split == "official"
        return {
            "name": self.entry.name,
            "classes": list(self.entry.classes),
            "channels": list(self.entry.channels),
            **{f"n_{side}": len(rows) for side, rows in self.split._asdict().items()},
            "validation": "stratified part" if official else "subjects",
            **subjects,
        }


def load(config: RunConfig, digests: dict[str, str | None], store: Store) -> Loaded:
    windows = data.load(config.data, str(digests["data"]), store.cache)
    return Loaded(data.DATASETS[config.data.name], windows, data.split(windows, config.data))


def texts(config: RunConfig, digests: dict[str, str | None]) -> list[list[str]]:
    """The texts of each class; raises ValueError if the bank is no longer the one that was planned."""
    classes = data.DATASETS[config.data.name].classes
    path = captions.bank_path(config.data.name)
    per_class = captions.class_texts(path, config.text, classes)
    if digest(per_class) != digests["text"]:
        raise ValueError(f"{path.name} changed after this sweep was planned; run the command again")
    return per_class


def prepare(jobs: Iterable[Job]) -> None:
    """Fill the caches of windows and text embeddings once, before trials start."""
    torch.set_num_threads(1)
    for job in jobs:
        config, store = RunConfig.model_validate(job.config), Store(Path(job.store))
        data.load(config.data, str(job.digests["data"]), store.cache)
        if config.reads_text:
            wanted = [text for group in texts(config, job.digests) for text in group]
            TextCache(store.cache, config.text.encoder, str(job.digests["encoder"])).get(wanted)


def run(job: Job) -> None:
    """Train, evaluate, write. A failure becomes a failed result with one line and a log; it never raises."""
    folder = Store(Path(job.store)).trial(job.signature)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", wait=True):
        for name in ("result.json", "metrics.jsonl", "predictions.npz", "model.safetensors"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "figures", ignore_errors=True)
        identity = {"signature": job.signature, "config": job.config, "digests": job.digests}
        write_json(folder / "config.json", identity)
        result: dict[str, Any] = {"schema": SCHEMA, **identity, "status": "done", "error": None}
        clock = Clock(job.submitted_at)
        try:
            config = RunConfig.model_validate(job.config)
            torch.set_num_threads(config.threads)
            with threadpool_limits(config.threads):
                result |= measure(config, job, folder, clock)
        except Exception as error:
            line = " ".join(str(error).split()) or "no message"
            result |= {"status": "failed", "error": f"{type(error).__name__}: {line}", "metrics": {}}
            write_bytes(folder / "log.txt", traceback.format_exc().encode())
        result["environment"] = environment(job)
        result["cost"] = result.get("cost", {}) | clock.cost()
        result["finished_at"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        write_json(folder / "result.json", result)


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def environment(job: Job) -> dict[str, Any]:
    """What bit-equality is promised for: versions, machine type, threads, device, code."""
    device = job.device if job.device == "cpu" else torch.cuda.get_device_name(job.device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{sys.platform}-{platform.machine()}",
        "cpu": _cpu(),
        "device": device,
        "code": job.code,
    }


def measure(config: RunConfig, job: Job, folder: Path, clock: Clock) -> dict[str, Any]:
    """The parts of a result that come from running the trial."""
    loaded = load(config, job.digests, Store(Path(job.store)))
    sides = [loaded.side(rows) for rows in loaded.split]
    if config.baseline != "none":
        started = time.time()
        features = [baselines.BASELINES[config.baseline](np.asarray(x)) for x, _ in sides]
        found = score(config, loaded, {config.baseline: features}, config.baseline, folder)
        clock.evaluation(started)
        return {"data": loaded.describe(config), "best_epoch": None, **found}
    trained = train(config, job, loaded, folder, clock)
    started = time.time()
    encoded = [metrics.encode(trained.model, trained.tensor(x)) for x, _ in sides]
    names = encoded[0].features
    features = {name: [e.features[name] for e in encoded] for name in names}
    found = score(config, loaded, features, config.probe.representation, folder)
    test, codes = encoded[2], trained.model.core.codebook.embedding.weight.detach().cpu().numpy()
    found["metrics"] |= {
        "val/series_mse": encoded[1].series_mse,
        "test/series_mse": test.series_mse,
        "test/shape_mse": test.shape_mse,
        "test/series_mse_shuffled_codes": test.series_mse_shuffled_codes,
        **metrics.code_health(test.index, codes),
    }
    checkpoint.save(trained.model, folder / "model.safetensors")
    if config.figures:
        draw(config, loaded, trained, sides[2], test.index, folder / "figures")
    clock.evaluation(started)
    parameters = sum(p.numel() for p in trained.model.parameters())
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost: dict[str, float] = {"parameters": parameters, "peak_memory_mb": peak_kb / 1024}
    if job.device != "cpu":
        cost["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(job.device) / 2**20
    return {"data": loaded.describe(config), "best_epoch": trained.best_epoch, "cost": cost, **found}


def score(
    config: RunConfig, loaded: Loaded, features: dict[str, list[np.ndarray]], primary: str, folder: Path
) -> dict[str, Any]:
    """Probe every representation; the primary one's numbers carry no representation in their names."""
    classes = loaded.entry.classes
    labels = [np.asarray(loaded.windows.label[rows]) for rows in loaded.split]
    out: dict[str, Any] = {"metrics": {}}
    for name, (train_x, val_x, test_x) in features.items():
        tested = metrics.test(
            (train_x, val_x, test_x), (labels[0], labels[1], labels[2]), config.probe.penalties, len(classes)
        )
        for key, value in tested.metrics.items():
            side, metric = key.split("/")
            out["metrics"][f"{side}/{name}/{metric}"] = value
            if name == primary:
                out["metrics"][key] = value
        if name == primary:
            subject = np.asarray(loaded.windows.subject[loaded.split.test])
            out["per_class_f1"] = metrics.per_class(labels[2], tested.predicted, classes)
            out["per_subject_macro_f1"] = metrics.per_subject(
                labels[2], tested.predicted, subject, len(classes)
            )
            out["confusion"] = metrics.confusion(labels[2], tested.predicted, len(classes))
            np.savez_compressed(
                folder / "predictions.npz", window=loaded.split.test, label=labels[2], predicted=tested.predicted
            )
    return out


class Trained(NamedTuple):
    """The chosen epoch's model, on `device`."""

    model: GuidedVQShape
    best_epoch: int
    tensor: Callable[[np.ndarray], torch.Tensor]


def train(config: RunConfig, job: Job, loaded: Loaded, folder: Path, clock: Clock) -> Trained:
    """Fit on training windows; validation picks the epoch where `train.select` says so, by macro-F1 of the
    primary representation's probe, ties by lower reconstruction error."""

    def tensor(x: np.ndarray) -> torch.Tensor:
        return torch.tensor(x, device=job.device)

    (train_x, train_y), (val_x, val_y), _ = (loaded.side(rows) for rows in loaded.split)
    table, assignment = text_table(config, job, train_y)
    sizes = Sizes(
        length=train_x.shape[2],
        channels=train_x.shape[1],
        classes=len(loaded.entry.classes),
        text_width=0 if table is None else table.tokens.shape[-1],
    )
    queries = None if config.text.tokens == "native" else config.text.tokens
    model = GuidedVQShape(config.model, config.losses, sizes, queries, config.seed)
    offset, scale = train_x.mean((0, 2))[:, None], train_x.std((0, 2))[:, None] + 1e-8
    model.standardize(torch.tensor(offset), torch.tensor(scale))
    model.to(job.device)
    x_WMT = tensor(train_x)
    best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": config.train.epochs - 1, "state": None}
    metrics_file = (folder / "metrics.jsonl").open("w", buffering=1)

    def validate(epoch: int) -> dict[str, float]:
        encoded = [metrics.encode(model, x) for x in (x_WMT, tensor(val_x))]
        name = config.probe.representation
        probe = metrics.tune(
            encoded[0].features[name], train_y, encoded[1].features[name], val_y,
            config.probe.penalties, sizes.classes,
        )  # fmt: skip
        key = (probe.val_macro_f1, -encoded[1].series_mse)
        if config.train.select == "validation" and key > best["key"]:
            state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            best.update(key=key, epoch=epoch, state=state)
        used = metrics.code_health(encoded[1].index, model.core.codebook.embedding.weight.detach().cpu().numpy())
        return {
            "val/macro_f1": probe.val_macro_f1,
            "val/series_mse": encoded[1].series_mse,
            "val/perplexity": used["codes/perplexity"],
        }

    def after_epoch(epoch: int, means: dict[str, float]) -> None:
        started = time.time()
        line: dict[str, Any] = {"epoch": epoch, **means}
        last = epoch == config.train.epochs - 1
        if last or (epoch + 1) % config.train.validate_every == 0:
            line |= validate(epoch)
        line["time_s"] = time.time() - clock.submitted_at
        metrics_file.write(json.dumps(line) + "\n")
        clock.evaluation(started)

    module = Lit(config, model, TrainingSet(config, x_WMT, tensor(train_y), assignment), table, after_epoch)
    evaluated = clock.evaluate_s
    with metrics_file:
        fit(module, job.device)
    clock.train_s = time.time() - module.first_step_at - (clock.evaluate_s - evaluated)
    if best["state"] is not None:
        model.load_state_dict(best["state"])
    return Trained(model.eval(), best["epoch"], tensor)


def text_table(
    config: RunConfig, job: Job, label: np.ndarray
) -> tuple[TextTable | None, captions.Assignment | None]:
    """The trial's encoded texts, padded to the longest, and who sees which."""
    if not config.reads_text:
        return None, None
    per_class = texts(config, job.digests)
    rng = np.random.default_rng(stream(config.seed, "text_control"))
    assignment = captions.assign(per_class, config.text, label, rng)
    cache = TextCache(Store(Path(job.store)).cache, config.text.encoder, str(job.digests["encoder"]))
    tokens = [torch.from_numpy(t) for t in cache.get(assignment.texts)]
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths = torch.tensor([len(t) for t in tokens])
    real = torch.arange(padded.shape[1])[None] < lengths[:, None]
    return TextTable.from_tokens(padded, real).to(job.device), assignment


def draw(
    config: RunConfig,
    loaded: Loaded,
    trained: Trained,
    test: tuple[np.ndarray, np.ndarray],
    index: np.ndarray,
    folder: Path,
) -> None:
    folder.mkdir(exist_ok=True)
    entry = loaded.entry
    x = trained.tensor(test[0])
    figures.reconstruction(
        trained.model, x, test[1], entry.classes, entry.channels, folder / "reconstruction.png"
    )
    figures.code_usage(index, test[1], entry.classes, config.model.codes, folder / "code_usage.png")
