"""Trials that differ only in the probe or the evaluation train once, to the numbers of training each."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from conftest import run_trial
from test_trial import forbid

from experiments import measure, stage
from experiments.config import RunConfig
from experiments.execute import Job
from experiments.identity import signature
from experiments.ledger import Store

Jobs = Callable[[str], list[Job]]


def probed(job: Job, **probe: Any) -> Job:
    """The job with another probe."""
    return changed(job, "probe", **probe)


def changed(job: Job, part: str, **settings: Any) -> Job:
    asked = RunConfig.model_validate(job.config | {part: job.config[part] | settings})
    return job._replace(signature=signature(asked, job.digests), config=asked.model_dump(mode="json"))


def outcome(store: Store, job: Job) -> dict[str, Any]:
    result = store.result(job.signature)
    assert result is not None and result["status"] == "done", result
    names = ("metrics", "best_epoch", "per_class_f1", "confusion")
    files = ("model.safetensors", "config.json", "probe.npz")
    kept = {name: (store.trial(job.signature) / "model" / name).read_bytes() for name in files}
    return {name: result[name] for name in names} | kept


@pytest.mark.parametrize("quantizer", ["standard", "ema", "rotation", "fsq"])
def test_another_probe_takes_the_model_that_was_trained(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, quantizer: str
) -> None:
    first, _ = jobs(f"a: {{model.quantizer: {quantizer}}}, b: {{losses.ce_series: 1}}")
    other = probed(first, representation="histogram", penalties=(1.0, 10.0))
    assert other.signature != first.signature
    run_trial(other)
    alone = outcome(store, other)
    shutil.rmtree(store.trial(other.signature))
    run_trial(first)
    (store.root / "stages").rename(store.root / "others")
    run_trial(first)
    with monkeypatch.context() as patch:
        forbid(patch, measure, "train")
        run_trial(other)
    assert outcome(store, other) == alone
    result = store.result(other.signature)
    assert result is not None and result["trained_by"] == first.signature


@pytest.mark.parametrize("scaled_first", [False, True])
def test_keep_scale_takes_the_model_that_was_trained_without_it_and_the_other_way(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, scaled_first: bool
) -> None:
    (plain,) = jobs("a: {}")
    first, other = (changed(plain, "model", keep_scale=keep) for keep in (scaled_first, not scaled_first))
    run_trial(other)
    alone = outcome(store, other)
    shutil.rmtree(store.trial(other.signature))
    (store.root / "stages").rename(store.root / "others")
    run_trial(first)
    assert outcome(store, first)["metrics"] != alone["metrics"]
    with monkeypatch.context() as patch:
        forbid(patch, measure, "train")
        run_trial(other)
    assert outcome(store, other) == alone
    curve = [json.loads(line) for line in (store.trial(other.signature) / "metrics.jsonl").open()]
    assert curve and not any("val/macro_f1" in line for line in curve)


def test_the_pictures_by_epoch_come_along_with_the_model(store: Store, jobs: Jobs) -> None:
    job, _ = jobs("a: {figures: true}, other: {losses.ce_series: 1}")
    other = probed(job, penalties=[1.0])
    for one in (job, other):
        assert run_trial(one) is None
    pictures = [
        {path.name: path.read_bytes() for path in store.trial(one.signature).glob("figures/epoch-*.png")}
        for one in (job, other)
    ]
    assert len(pictures[0]) == 2 and pictures[0] == pictures[1]
    result = store.result(other.signature)
    assert result is not None and result["trained_by"] == job.signature


def test_what_changes_training_is_another_stage(jobs: Jobs) -> None:
    (job,) = jobs("a: {train.epochs: 2}")
    config = RunConfig.model_validate(job.config)

    def name(**change: Any) -> str | None:
        return stage.stage(RunConfig.model_validate(job.config | change), job.digests)

    assert name(probe={"representation": "histogram"}) == name() == stage.stage(config, job.digests)
    assert len({name(), name(seed=1), name(threads=2), name(losses={"ce_series": 1})}) == 4
    chosen = job.config["train"] | {"select": "validation"}
    assert name(train=chosen) != name(train=chosen, probe={"representation": "histogram"})
    scaled = job.config["model"] | {"keep_scale": True}
    assert name(model=scaled) == name() and name(train=chosen, model=scaled) != name(train=chosen)
    assert name(baseline="fcn") is None


@pytest.mark.parametrize("spoil", ["code", "device", "gone", "torn", "failed"])
def test_a_stage_that_does_not_fit_is_trained_again(store: Store, jobs: Jobs, spoil: str) -> None:
    (first,) = jobs("a: {train.epochs: 1}")
    other = probed(first, representation="histogram")
    run_trial(first)
    folder = store.trial(first.signature)
    if spoil == "code":
        other = other._replace(code="newer")
    if spoil == "device":
        result = (folder / "result.json").read_text()
        (folder / "result.json").write_text(result.replace('"device": "cpu"', '"device": "H100"'))
    if spoil == "gone":
        (folder / "model" / "config.json").unlink()
    if spoil == "torn":
        (folder / "metrics.jsonl").write_text('{"epoch": 0, "tr')
    if spoil == "failed":
        next((store.root / "stages").iterdir()).write_text("")
    run_trial(other)
    result = store.result(other.signature)
    assert result is not None and result["status"] == "done" and "trained_by" not in result
