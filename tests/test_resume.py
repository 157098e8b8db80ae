"""A trial that was stopped anywhere goes on to the bits of an undisturbed one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import run_trial
from test_trial import numbers

from experiments import figures, trial
from experiments.config import TrainConfig
from experiments.execute import Job
from experiments.lease import Lease, live
from experiments.ledger import Store

Jobs = Callable[[str], list[Job]]
GUIDED = "model.guidance.attention: two_way, losses: {info_nce: 0.1, consistency: 1, text_recon: 1}"
VARIANTS = {
    "core": "losses.ce_series: 0.1",
    "guided, merged": f"model.guidance.merge: mean, {GUIDED}",
    "guided at patches, text codes": "model.guidance: {attention: one_way, at: patches, into: all}, "
    "model.text_codes: true, losses: {series_from_text: 1, text_vq: 1}",
    "chosen on validation": "train.select: validation, train.lr: 0.01",
    "augmented, joint": "data.augment: {jitter: 0.1, scaling: 0.1, time_warp: 0.1, channel_drop: 0.1}, "
    "model.channels: joint",
    "bfloat16": "train.precision: bfloat16",
    "sub-actions": "model.sub_actions: decoder, losses.sub_action: 1",
    **{name: f"model.quantizer: {name}" for name in ("ema", "cosine", "rotation", "simvq", "fsq", "none")},
    "fcn": "baseline: fcn",
    "fcn, chosen on validation": "baseline: fcn, train.select: validation",
}
EPOCHS, STEPS = 3, 3


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
    """Those that `trial.run` claims, in their order."""
    out: list[Lease] = []
    claim = trial.claim

    def kept(*args: Any) -> Lease:
        out.append(claim(*args))
        return out[-1]

    monkeypatch.setattr(trial, "claim", kept)
    return out


def stop_in_step(
    monkeypatch: pytest.MonkeyPatch, leases: list[Lease], steps: list[int], why: str = "pre-empted"
) -> list[int]:
    """Ask the trial to stop while these steps, counted over all attempts, are taken; how many were."""
    taken, real = [0], torch.optim.lr_scheduler.LambdaLR.step

    def step(self: Any, *args: Any) -> None:
        real(self, *args)
        if self._step_count > 1:  # the first one is the scheduler's own
            taken[0] += 1
            if taken[0] in steps:
                leases[-1].asked = why

    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", step)
    return taken


@pytest.mark.parametrize("name", VARIANTS)
def test_a_trial_stopped_in_the_middle_and_at_the_end_of_epochs_ends_bit_equal(
    store: Store, jobs: Jobs, leases: list[Lease], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    job, _ = jobs(f"a: {{train.epochs: {EPOCHS}, {VARIANTS[name]}}}, other: {{losses.ce_series: 1}}")
    assert run_trial(job) is None
    whole = numbers(store, job)
    assert whole["epochs"] is None or len(whole["epochs"]) == EPOCHS
    taken = stop_in_step(monkeypatch, leases, [2, STEPS, STEPS + 1, 3 * STEPS])
    ends = [trial.run([job._replace(accepted=1)], False) for _ in range(5)]
    assert ends == ["pre-empted"] * 4 + [None] and taken == [EPOCHS * STEPS]
    assert numbers(store, job) == whole
    result = store.result(job.signature)
    assert result is not None and result["attempt"] == 6


def test_a_pruned_trial_keeps_its_curve_and_no_checkpoint(
    store: Store, jobs: Jobs, leases: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = jobs(f"a: {{train.epochs: {EPOCHS}}}, other: {{losses.ce_series: 1}}")
    stop_in_step(monkeypatch, leases, [STEPS + 1], "pruned")
    assert trial.run([job], False) == "pruned"
    left = {path.name for path in live(store.trial(job.signature)).iterdir()}
    assert "metrics.jsonl" in left and not left & {"checkpoint", "lease.json"}


def test_a_resumed_trial_has_the_pictures_and_the_use_of_all_its_epochs(
    store: Store, jobs: Jobs, leases: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = f"train: {{epochs: {EPOCHS}, validate_every: 1, select: validation}}, figures: true"
    job, _ = jobs(f"a: {{{settings}}}, other: {{losses.ce_series: 1}}")
    folder, steps = store.trial(job.signature), range(EPOCHS)
    assert run_trial(job) is None
    whole = {path.name: path.read_bytes() for path in folder.glob("figures/*.png")}
    assert {f"epoch-{epoch:04}.png" for epoch in steps} < whole.keys()
    stop_in_step(monkeypatch, leases, [STEPS + 1])
    assert trial.run([job._replace(accepted=1)], False) == "pre-empted"
    assert trial.run([job._replace(accepted=1)], False) is None
    assert {path.name: path.read_bytes() for path in folder.glob("figures/*.png")} == whole
    lines = [json.loads(line) for line in (folder / "system.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(steps)
    assert all(line["memory_mb"] > 50 and line["cpu_percent"] >= 0 for line in lines)


def test_of_many_validated_epochs_five_are_pictured_the_last_among_them() -> None:
    def pictured(epochs: int, every: int) -> list[int]:
        return sorted(figures.pictured(TrainConfig(epochs=epochs, validate_every=every)))

    assert pictured(40, 10) == [9, 19, 29, 39]
    assert pictured(100, 1) == [0, 25, 50, 74, 99]
    assert pictured(3, 10) == [2]
