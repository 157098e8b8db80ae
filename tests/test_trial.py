"""One trial: what its numbers depend on, what they can't depend on, and how it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Finished, jobs_of, run_trial
from guided_fixture import SMALL, concepts, per_class, side

from experiments import captions, data, encoder, metrics, probe, train
from experiments.config import RunConfig
from experiments.encoder import TextCache
from experiments.execute import Job
from experiments.identity import signature
from experiments.ledger import Store
from experiments.lit import Lit, TrainingSet
from experiments.sweep import load
from experiments.texts import Text
from model import checkpoint
from model.guided import Batch, GuidedVQShape, Sizes

Jobs = Callable[[str], list[Job]]
TEXT = "model.guidance.attention: two_way, losses.info_nce: 0.1"


def epochs(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl, less the clock's."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s"} for line in lines]


def numbers(store: Store, job: Job) -> dict[str, Any]:
    """All of a finished trial that may not depend on where and when it ran."""
    result, folder = store.result(job.signature), store.trial(job.signature)
    assert result is not None and result["status"] == "done", result
    kept = ("metrics", "best_epoch", "per_class_f1", "confusion", "data")
    files = {f.name: f.read_bytes() for f in folder.glob("model/*")}
    return (
        {name: result[name] for name in kept}
        | files
        | {"epochs": epochs(folder) if (folder / "metrics.jsonl").exists() else None}
    )


def failure(store: Store, job: Job) -> dict[str, Any]:
    run_trial(job)
    result = store.result(job.signature)
    assert result is not None and result["status"] == "failed"
    assert result["metrics"] == {} and "\n" not in result["error"]
    assert "Traceback" in (store.trial(job.signature) / "log.txt").read_text()
    return result


def test_a_trial_gives_the_same_bits_here_as_in_a_process_of_a_two_worker_launch(
    finished: Finished, store: Store
) -> None:
    jobs = jobs_of(load(finished.file, finished.store), store)
    assert len(jobs) == 5
    for job in jobs:
        run_trial(job._replace(config=job.config | {"figures": False}))
        assert numbers(store, job) == numbers(finished.store, job)


def test_a_trial_leaves_every_file_that_the_ledger_names(finished: Finished) -> None:
    for job in jobs_of(load(finished.file, finished.store), finished.store):
        folder, config = finished.store.trial(job.signature), RunConfig.model_validate(job.config)
        there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert {"config.json", "result.json", "log.txt", "predictions.npz"} <= there
        if config.baseline == "none":
            figures = {"figures/reconstruction.png", "figures/code_usage.png"}
            saved = {"model/config.json", "model/model.safetensors"}
            assert {"metrics.jsonl", *saved, *figures} <= there
            assert [line["epoch"] for line in epochs(folder)] == [0, 1]
            assert {"train/loss", "val/macro_f1", "val/series_mse"} <= epochs(folder)[-1].keys()


def batches(settings: dict[str, Any], epoch: int, text: captions.Assignment | None = None) -> list[Batch]:
    config = RunConfig.model_validate({"train": {"batch_size": 5}, **settings})
    x_WMT = torch.arange(12.0).reshape(12, 1, 1).expand(12, 2, 50)
    torch.manual_seed(epoch)  # whatever happened before must not matter
    training = TrainingSet(config, side(x_WMT, np.arange(12) % 3), Text(assignment=text))
    return [step.batch for step in training.epoch(epoch)]


def test_order_masks_and_who_sees_text_hang_on_seed_and_epoch_alone() -> None:
    guided = {"model": {"guidance": {"attention": "two_way"}}}
    rows = np.arange(12) % 3
    text = per_class([["a"], ["b"], ["c"]], rows)
    plain, with_text = batches({}, 3), batches(guided, 3, text)
    assert [len(batch.x) for batch in plain] == [5, 5, 2]
    for one, other in zip(plain, with_text, strict=True):
        for name in ("x", "label", "keep", "sees_text"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    for changed in (batches({}, 4), batches({"seed": 1}, 3)):
        for name in ("x", "keep", "sees_text"):
            before, after = (torch.cat([getattr(b, name) for b in side]) for side in (plain, changed))
            assert not torch.equal(before, after), name


def test_a_window_gets_a_text_of_its_class_in_a_wording_that_changes_by_epoch() -> None:
    rows, names = np.arange(12) % 3, [f"class {y}, wording {i}" for y in range(3) for i in range(4)]
    text = per_class([names[:4], names[4:8], names[8:]], rows)
    drawn: list[dict[float, int]] = []
    for epoch in (0, 1):
        seen = batches({}, epoch, text)
        assert all(torch.equal(batch.text // 4, batch.label) for batch in seen)
        windows, texts = (
            torch.cat(parts).tolist() for parts in zip(*((b.x[:, 0, 0], b.text) for b in seen), strict=True)
        )
        drawn.append(dict(zip(windows, texts, strict=True)))
    assert len(drawn[0]) == 12 and drawn[0] != drawn[1]


def test_a_windows_group_is_the_class_that_its_text_was_made_for() -> None:
    """Under shuffled text the positives of a contrastive loss say nothing about the label."""
    label, source = np.arange(12) % 3, np.arange(12) // 4
    text = per_class([["a"], ["b"], ["c"]], source)
    for batch in batches({}, 0, text):
        window = batch.x[:, 0, 0].long().numpy()
        assert batch.label.tolist() == label[window].tolist()
        assert batch.group.tolist() == batch.text.tolist() == source[window].tolist()


def test_a_model_is_built_with_its_training_windows_class_weights_and_the_concepts_vectors() -> None:
    settings = {"model": SMALL | {"sub_actions": "head"}, "losses": {"sub_action": 1.0}}
    label, table = np.array([0, 0, 0, 1, 1, 2]), concepts()
    x_WMT = np.random.default_rng(0).standard_normal((6, 2, 24)).astype(np.float32)
    training = side(torch.from_numpy(x_WMT), label)
    text = Text(concepts=table, names=tuple("abcde"))
    model = train.build(RunConfig.model_validate(settings), training, 3, text)
    assert model.class_weight.tolist() == pytest.approx([6 / 9, 1, 2])
    assert model.sub_actions is not None and torch.equal(model.sub_actions.vectors, table.vectors)


def test_every_series_keeps_patches_of_its_own_and_as_many_as_the_mask_leaves() -> None:
    settings = {"model": {"mask_frac": 0.35}}  # of 10 patches 3 are hidden
    keep = torch.cat([b.keep for epoch in range(60) for b in batches(settings, epoch)])
    assert keep.shape == (60 * 24, 7)
    assert all(len(set(row)) == 7 for row in keep.tolist())
    kept = torch.bincount(keep.flatten(), minlength=10) / len(keep)
    assert kept.min() > 0.65 and kept.max() < 0.75
    first, second = keep[::2].sort(-1).values, keep[1::2].sort(-1).values
    assert (first == second).all(-1).float().mean() < 0.05  # 1 of 120 by chance


def test_an_epochs_losses_are_means_over_windows(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, float]] = []
    compute = GuidedVQShape.losses

    def recorded(self: GuidedVQShape, batch: Batch, *args: Any) -> dict[str, torch.Tensor]:
        found = compute(self, batch, *args)
        steps.append((len(batch.x), float(found["total"].detach())))
        return found

    monkeypatch.setattr(GuidedVQShape, "losses", recorded)
    (job,) = jobs("plain: {train.epochs: 1, train.batch_size: 20}")
    run_trial(job)
    assert [windows for windows, _ in steps] == [20, 10]
    (line,) = epochs(store.trial(job.signature))
    assert line["train/loss"] == pytest.approx(sum(w * loss for w, loss in steps) / 30, rel=1e-6)


def test_every_step_trains_in_training_mode_though_validation_came_between(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []
    compute = GuidedVQShape.losses

    def recorded(self: GuidedVQShape, *args: Any) -> dict[str, torch.Tensor]:
        modes.append(all(module.training for module in self.modules()))
        return compute(self, *args)

    monkeypatch.setattr(GuidedVQShape, "losses", recorded)
    (job,) = jobs("plain: {train.epochs: 2, train.validate_every: 1, train.select: validation}")
    run_trial(job)
    assert len(modes) > 2 and all(modes)


def test_text_dropout_is_the_part_of_windows_that_do_not_see_their_text() -> None:
    for text_dropout, low, high in ((0.0, 1, 1), (0.1, 0.8, 0.97), (0.9, 0.03, 0.2)):
        guided = {"model": {"guidance": {"attention": "two_way", "text_dropout": text_dropout}}}
        seen = [b.sees_text.float() for epoch in range(40) for b in batches(guided, epoch)]
        assert low <= torch.cat(seen).mean() <= high


def test_every_epoch_has_dropout_masks_of_its_own(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: dict[int, set[int]] = {}
    step = Lit.training_step

    def recorded(self: Lit, *args: Any) -> torch.Tensor:
        seeds.setdefault(self.current_epoch, set()).add(torch.initial_seed())
        return step(self, *args)

    monkeypatch.setattr(Lit, "training_step", recorded)
    (job,) = jobs("plain: {train.epochs: 3}")
    run_trial(job)
    assert [len(found) for found in seeds.values()] == [1, 1, 1] and len(set.union(*seeds.values())) == 3


def forbid(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(where, name, refuse)


def test_a_text_is_encoded_once_for_each_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def fake(name: str, texts: list[str]) -> list[np.ndarray]:
        asked.append(texts)
        return [np.full((len(text), 2), len(asked), np.float32) for text in texts]

    monkeypatch.setattr(encoder, "encode", fake)
    first = list(TextCache(tmp_path, "minilm", "a" * 64).get(["walk", "run", "walk"]))
    assert asked == [["walk", "run"]] and [t.shape for t in first] == [(4, 2), (3, 2), (4, 2)]
    second = list(TextCache(tmp_path, "minilm", "a" * 64).get(["run", "stand"]))
    assert asked[1:] == [["stand"]] and np.array_equal(second[0], first[1])
    other = list(TextCache(tmp_path, "minilm", "b" * 64).get(["run"]))
    assert asked[2:] == [["run"]] and not np.array_equal(other[0], first[1])


def test_no_trial_encodes_a_text_that_any_trial_encoded(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, encoder, "encode")
    known, new = jobs(f"known: {{{TEXT}, losses.ce_series: 0.5}}, new: {{{TEXT}, text.form: negative}}")
    run_trial(known)
    assert numbers(store, known)["metrics"]
    assert failure(store, new)["error"] == "AssertionError: encode was called"


def test_texts_change_no_number_of_a_trial_without_text(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {losses.ce_series: 0.1}")
    other = RunConfig.model_validate(job.config | {"text": {"form": "negative", "control": "constant"}})
    assert signature(other, job.digests) == job.signature
    run_trial(job)
    before = numbers(store, job)
    for where, name in ((TextCache, "get"), (captions, "class_texts")):
        forbid(monkeypatch, where, name)
    run_trial(job._replace(config=other.model_dump(mode="json")))
    assert numbers(store, job) == before


def test_texts_do_change_a_trial_that_reads_them(store: Store, jobs: Jobs) -> None:
    own, shuffled = jobs(f"own: {{{TEXT}}}, shuffled: {{{TEXT}, text.control: shuffled_samples}}")
    run_trial(own)
    run_trial(shuffled)
    assert numbers(store, own)["model.safetensors"] != numbers(store, shuffled)["model.safetensors"]


def test_the_test_split_steers_nothing(store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs("plain: {losses.ce_series: 0.1, train.select: validation, train.epochs: 3}")
    run_trial(job)
    honest = numbers(store, job)
    real = data.load_split

    def spoiled(*args: Any) -> data.Loaded:
        loaded = real(*args)
        label, series = np.array(loaded.windows.label), np.array(loaded.windows.series)
        test = loaded.split.test
        label[test], series[test] = np.roll(label[test], 7), series[test][:, ::-1]
        return loaded._replace(windows=loaded.windows._replace(label=label, series=series))

    monkeypatch.setattr(data, "load_split", spoiled)
    run_trial(job)
    blind = numbers(store, job)
    for name in ("best_epoch", "epochs", "model.safetensors"):
        assert blind[name] == honest[name], name
    validation = {name for name in honest["metrics"] if name.startswith("val/")}
    assert validation and all(blind["metrics"][name] == honest["metrics"][name] for name in validation)
    assert blind["metrics"]["test/macro_f1"] != honest["metrics"]["test/macro_f1"]


def validated_at(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Give the epochs of the next trial these scores on validation; its final probes are real."""
    real, given = probe.tune, iter(scores)

    def tune(*args: Any) -> probe.Probe:
        return probe.Probe((1.0,), score) if (score := next(given, None)) is not None else real(*args)

    monkeypatch.setattr(probe, "tune", tune)


def test_validation_picks_the_epoch_whose_weights_are_kept(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {train.select: validation, train.epochs: 3, train.lr: 0.01}")
    real = probe.tune
    validated_at(monkeypatch, [0.2, 0.9, 0.5])
    run_trial(job)
    lines, found = epochs(store.trial(job.signature)), numbers(store, job)
    assert found["best_epoch"] == 1 and [line["val/macro_f1"] for line in lines] == [0.2, 0.9, 0.5]
    assert found["metrics"]["val/series_mse"] == lines[1]["val/series_mse"] != lines[2]["val/series_mse"]

    config = RunConfig.model_validate(job.config)
    loaded = data.load_split(config.data, str(job.digests["data"]), store.cache)
    training, validation, tested = loaded.sides("cpu")
    model = checkpoint.from_pretrained(store.trial(job.signature) / "model")
    assert (model.config, model.weights, model.sizes) == (config.model, config.losses, Sizes(100, 6, 4, 0))
    train, val = (metrics.encode(model, side) for side in (training, validation))
    assert metrics.series_mse(model, validation, val.tokens) == found["metrics"]["val/series_mse"]
    health = metrics.code_health(model, metrics.encode(model, tested).code)
    assert health.items() <= found["metrics"].items()
    assert metrics.code_health(model, val.code)["codes/perplexity"] == lines[1]["val/perplexity"]
    for name in ("tokens", "tokens_ze", "pooled", "histogram"):
        x, y = ([train.features[name]], [val.features[name]]), (training.label, validation.label)
        tuned = real(x[0], y[0], x[1], y[1], config.probe.penalties)
        assert tuned.val_macro_f1 == found["metrics"][f"val/{name}/macro_f1"]


def test_the_epoch_is_chosen_by_the_primary_representation_with_its_block_of_scales(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {train.epochs: 1, model.keep_scale: true, train.select: validation}")
    config = job.config | {"probe": job.config["probe"] | {"representation": "histogram"}}
    real, widths = probe.tune, []

    def tune(x: probe.Blocks, *args: Any) -> probe.Probe:
        widths.append([block.shape[1] for block in x])
        return real(x, *args)

    monkeypatch.setattr(probe, "tune", tune)
    run_trial(job._replace(config=config))
    assert widths[0] == [6 * config["model"]["codes"], 2 * 6]


@pytest.mark.parametrize(
    "change",
    ["lr: 0.002", "lr_min: 0.0005", "warmup_frac: 0.5", "weight_decay: 0.9", "clip: 0.01", "batch_size: 7"],
)
def test_every_setting_of_the_optimiser_changes_the_weights(store: Store, jobs: Jobs, change: str) -> None:
    plain, other = jobs(f"plain: {{train.epochs: 2}}, other: {{train.epochs: 2, train.{change}}}")
    run_trial(plain)
    run_trial(other)
    weights = [
        (store.trial(j.signature) / "model" / "model.safetensors").read_bytes() for j in (plain, other)
    ]
    assert weights[0] != weights[1]


def test_among_equal_epochs_the_one_that_rebuilds_validation_best_is_kept(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {train.select: validation, train.epochs: 3}")
    validated_at(monkeypatch, [0.9, 0.9, 0.5])
    run_trial(job)
    errors = [line["val/series_mse"] for line in epochs(store.trial(job.signature))]
    assert errors[0] != errors[1]
    assert numbers(store, job)["best_epoch"] == errors.index(min(errors[:2]))


@pytest.mark.parametrize("found_in", ["validation", "training"])
def test_a_model_that_diverges_is_a_failure_that_says_so(store: Store, jobs: Jobs, found_in: str) -> None:
    looks = {"validation": 1, "training": 2}[found_in]
    train = "epochs: 2, batch_size: 40, lr: 1.0e+30, warmup_frac: 0, select: validation"
    (job,) = jobs(f"wild: {{train: {{{train}, validate_every: {looks}}}}}")
    message = f"diverged: the model's output is not finite in epoch {looks - 1}"
    result = failure(store, job)
    assert result["error"] == f"FloatingPointError: {message}"
    assert result["cost"]["total_s"] > 0 and result["finished_at"]


def test_a_loss_that_is_not_finite_is_a_divergence(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {train.epochs: 1}")
    monkeypatch.setattr(Lit, "training_step", lambda self, *_: self.sums.update(total=torch.tensor(np.nan)))
    assert failure(store, job)["error"] == "FloatingPointError: diverged: the loss is not finite in epoch 0"


def test_a_metric_that_is_not_finite_fails_the_trial(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs("plain: {train.epochs: 1}")
    monkeypatch.setattr(metrics, "code_health", lambda *_: {"codes/perplexity": float("inf")})
    assert failure(store, job)["error"] == "FloatingPointError: diverged: codes/perplexity is inf"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_a_failure_that_says_so(store: Store, jobs: Jobs) -> None:
    (job,) = jobs("plain: {train.epochs: 1}")
    result = failure(store, job._replace(device="cuda:0"))
    assert "CUDA" in result["error"] and result["environment"]["device"] == "cuda:0"


def test_a_bank_edited_since_the_plan_is_refused(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs(f"text: {{{TEXT}}}")
    monkeypatch.setattr(captions, "class_texts", lambda *_: [["other"]] * 4)
    assert "basic_motions.yaml changed after this sweep was planned" in failure(store, job)["error"]


def test_a_second_attempt_leaves_nothing_of_the_first(store: Store, jobs: Jobs) -> None:
    (job,) = jobs("plain: {train.epochs: 1}")
    run_trial(job)
    folder = store.trial(job.signature)
    stale = [folder / name for name in ("predictions.npz", "model/config.json", "metrics.jsonl")]
    assert all(path.exists() for path in stale)
    failure(store, job._replace(config={"no": "config"}))
    assert not any(path.exists() for path in stale)


def test_the_model_is_back_on_its_device_after_lightning_put_it_on_the_cpu(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a GPU only the calls can be seen: Lightning's teardown calls `cpu()`, ours must follow it.
    calls: list[str] = []
    for name in ("cpu", "to"):
        original = getattr(torch.nn.Module, name)

        def recorded(self: torch.nn.Module, *args: Any, _name: str = name, _call: Any = original) -> Any:
            if type(self).__name__ in ("Lit", "GuidedVQShape"):
                calls.append(_name)
            return _call(self, *args)

        monkeypatch.setattr(torch.nn.Module, name, recorded)
    (job,) = jobs("plain: {losses.ce_series: 0.2}")
    run_trial(job)
    assert "cpu" in calls and "to" in calls[len(calls) - calls[::-1].index("cpu") :]
