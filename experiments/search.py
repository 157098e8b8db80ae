"""Optuna, held by the coordinator alone (ask and tell): its queue has one reader.

The study is a record that optuna-dashboard opens; the ledger stays the truth. The study's name holds the
hash of its space, so an edited sweep opens a new one and finished trials are added again from the ledger.
"""

import json
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from experiments.identity import digest, flat
from experiments.ledger import Store
from experiments.plan import Sweep

OBJECTIVE = "val/macro_f1"


class Study:
    """One Optuna trial for each signature of the sweep."""

    def __init__(self, sweep: Sweep, store: Store) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.params = _params(sweep)
        choices: dict[str, list[Any]] = {}
        for params in self.params.values():
            for name, value in params.items():
                if value not in choices.setdefault(name, []):
                    choices[name].append(value)
        self.space: dict[str, BaseDistribution] = {k: CategoricalDistribution(v) for k, v in choices.items()}
        store.root.mkdir(parents=True, exist_ok=True)
        self.name = f"{sweep.name}-{digest([choices, sorted(self.params)])[:8]}"
        self.study = optuna.create_study(
            storage=f"sqlite:///{store.root.resolve()}/optuna.db",
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
        )
        self._catch_up(store)

    def _catch_up(self, store: Store) -> None:
        """Close what a killed launch left queued or running; add what the ledger has and the study lacks."""
        known = set()
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self.study.tell(self.study.ask(), state=TrialState.FAIL)
            elif trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif trial.state == TrialState.COMPLETE:
                known.add(trial.user_attrs.get("signature"))
        for signature, params in self.params.items():
            result = store.result(signature)
            if signature not in known and result and result["status"] == "done":
                self.study.add_trial(self._frozen(signature, params, result["metrics"][OBJECTIVE]))

    def _frozen(self, signature: str, params: dict[str, Any], value: float) -> FrozenTrial:
        return create_trial(
            params=params, distributions=self.space, value=value, user_attrs={"signature": signature}
        )

    def ask(self, signature: str) -> Trial:
        """The cell enters the queue only as it starts."""
        params = self.params[signature]
        self.study.enqueue_trial(params, user_attrs={"signature": signature})
        trial = self.study.ask(self.space)
        if trial.user_attrs.get("signature") != signature or trial.params != params:
            raise RuntimeError(
                f"Optuna handed out {trial.params}, not the cell that was asked for ({signature})"
            )
        return trial

    def tell(self, trial: Trial, result: dict[str, Any] | None) -> None:
        """None, or a failed result, ends the Optuna trial as failed."""
        if result and result["status"] == "done":
            self.study.tell(trial, result["metrics"][OBJECTIVE])
        else:
            self.study.tell(trial, state=TrialState.FAIL)


def _params(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """By signature: the row, and what differs between the sweep's rows, in short names where they are
    unambiguous."""
    names = sweep.plan()["differs"]
    ends = [name.split(".")[-1] for name in names]
    labels = [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]
    out: dict[str, dict[str, Any]] = {}
    for cell in reversed(sweep.cells):  # the first cell of a shared trial names it
        config = flat(sweep.configs[cell.signature].model_dump(mode="json"))
        values = [
            v if isinstance(v := config[name], (str, int, float, bool)) else json.dumps(v) for name in names
        ]
        seed = -1 if cell.seed is None else cell.seed
        point = {"row": cell.row, "seed": seed, "fold": cell.fold}
        out[cell.signature] = point | dict(zip(labels, values, strict=True))
    return dict(reversed(out.items()))
