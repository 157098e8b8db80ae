"""Optuna: what to try next, when to give up, what mattered. Each answer hangs on its arguments alone.

Every question gets a study of its own, in memory, that holds the trials it may know of: nothing is left
behind, so a killed search asks again and hears the same.
"""

import inspect
import json
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Union

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from pydantic import TypeAdapter, ValidationError

from experiments.identity import digest
from experiments.space import Chosen
from experiments.threads import limited
from experiments.yamlfile import nearest

Spec = dict[str, Any]  # `Word.spec`
Attributes = dict[str, Any]

SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "nsgaiii": optuna.samplers.NSGAIIISampler,
    "brute_force": optuna.samplers.BruteForceSampler,
}
PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
}
FIXED: dict[str, dict[str, Any]] = {"patient": {"wrapped_pruner": None}, "tpe": {"constant_liar": True}}
TYPES = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
ENOUGH = 5  # complete trials, below which a forest of trees has nothing to say of what mattered


class OptionError(Exception):
    """A setting of a sampler or pruner that Optuna would not take; `option` where it is one in particular."""

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class Past(NamedTuple):
    """A trial as a question may know it; of a running one, its parameters and what was stored in asking."""

    params: dict[str, Any]
    state: str
    value: float | None
    intermediate: list[tuple[int, float]]
    attributes: Attributes


class Suggestion(NamedTuple):
    """`attributes` and `common`: what the sampler stores with the trial and with its study (JSON)."""

    params: dict[str, Any]
    attributes: Attributes
    common: Attributes


@contextmanager
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental samplers, mixed spaces
        yield


def check(kind: str, chosen: Chosen) -> None:
    """Raise OptionError where Optuna has no such setting, or not that value."""
    made = (SAMPLERS if kind == "sampler" else PRUNERS)[chosen.name]
    fixed = FIXED.get(chosen.name, {})
    takes = {
        name: kinds
        for name, found in inspect.signature(made).parameters.items()
        if name != "seed" and name not in fixed and (kinds := _kinds(found.annotation))
    }
    for name, value in chosen.options.items():
        if name not in takes:
            raise OptionError(f"{kind} {chosen.name} has no setting '{name}': {nearest(name, takes)}", name)
        try:
            TypeAdapter(takes[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            text, why = json.dumps(value), error.errors()[0]["msg"]
            raise OptionError(f"{name}: {text} does not fit: {why}", name) from None
    for name, found in inspect.signature(made).parameters.items():
        if found.default is inspect.Parameter.empty and name in takes and name not in chosen.options:
            raise OptionError(f"{kind} {chosen.name} needs its setting '{name}'")
    try:
        with _quiet():
            warnings.simplefilter("error", FutureWarning)  # what Optuna will take no more
            built = _made(made, chosen)
            if kind == "pruner":
                _prime(optuna.create_study(pruner=built))
    except (ValueError, TypeError, ArithmeticError, FutureWarning, AssertionError) as error:
        raise OptionError(f"{kind} {chosen.name}: {' '.join(str(error).split())}") from None


def _kinds(annotation: Any) -> Any:
    """The type of a setting that YAML can give; None for any other."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    parts = text.split(" | ")
    return Union[*(TYPES[part] for part in parts)] if all(part in TYPES for part in parts) else None


def _made(made: Any, chosen: Chosen, **more: Any) -> Any:
    return made(**FIXED.get(chosen.name, {}), **chosen.options, **more)


def seed(*names: Any) -> int:
    """32 bits, as numpy takes them; `model.streams` would import torch, and plans ask too."""
    return int(digest(list(names))[:8], 16)


def _sampler(spec: Spec, stem: str, number: int) -> optuna.samplers.BaseSampler:
    chosen, own = Chosen(**spec["sampler"]), seed(spec["seed"], stem, number)
    more: dict[str, Any] = {"seed": own}
    if chosen.name == "qmc":  # one sequence for the study; what comes before it is each trial's own draw
        more["independent_sampler"] = optuna.samplers.RandomSampler(seed=own)
        more["seed"] = seed(spec["seed"], stem, "sequence")
    return _made(SAMPLERS[chosen.name], chosen, **more)


@contextmanager
def _one_thread(spec: Spec) -> Iterator[None]:
    """Gaussian processes are torch's, whose sums hang on the number of threads."""
    if spec["sampler"]["name"] != "gp":
        yield
        return
    with limited(1):
        yield


def distributions(space: dict[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's, of `Dimension.written` by name; a value that is no number or text goes by its JSON."""
    out: dict[str, BaseDistribution] = {}
    for name, written in space.items():
        if isinstance(written, list):
            out[name] = CategoricalDistribution([scalar(value) for value in written])
        elif isinstance(written["low"], int):
            out[name] = IntDistribution(**written)
        else:
            out[name] = FloatDistribution(**written)
    return out


def scalar(value: Any) -> Any:
    """As Optuna takes it: what is no number or text goes by its JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def frozen(kinds: dict[str, BaseDistribution], past: Past, user: dict[str, Any] | None = None) -> FrozenTrial:
    """The trial as Optuna holds it."""
    return create_trial(
        state=STATES[past.state],
        value=past.value,
        params={name: scalar(value) for name, value in past.params.items()},
        distributions=kinds,
        intermediate_values=dict(past.intermediate),
        system_attrs=past.attributes,
        user_attrs=user,
    )


def _study(spec: Spec, stem: str, past: Iterable[Past], sampler: Any) -> optuna.Study:
    chosen = Chosen(**spec["pruner"])
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        study_name=stem,
        direction="maximize",
        sampler=sampler,
        pruner=_made(PRUNERS[chosen.name], chosen),
    )
    kinds = distributions(spec["space"])
    for trial in past:
        study.add_trial(frozen(kinds, trial))
    _prime(study)
    return study


def _prime(study: optuna.Study) -> None:
    """Hyperband looks at its settings and makes its brackets when first asked."""
    study.pruner.prune(study, create_trial(value=0.0))


def ask(spec: Spec, stem: str, past: list[Past], common: Attributes) -> Suggestion:
    """What trial `len(past)` of study `stem` tries. common: of the trial asked before."""
    with _quiet(), _one_thread(spec):
        study = _study(spec, stem, past, _sampler(spec, stem, len(past)))
        storage, key = study._storage, study._study_id
        for name, value in common.items():
            storage.set_study_system_attr(key, name, value)
        trial = study.ask(distributions(spec["space"]))
        stored = storage.get_trial(trial._trial_id)
        params = {name: _written(spec["space"][name], stored.params[name]) for name in spec["space"]}
        return Suggestion(params, dict(stored.system_attrs), dict(storage.get_study_system_attrs(key)))


def _written(written: Any, value: Any) -> Any:
    """As the sweep file would say it."""
    if not isinstance(written, list):
        return int(value) if isinstance(written["low"], int) else float(value)
    return next(one for one in written if type(scalar(one)) is type(value) and scalar(one) == value)


class Judge:
    """Says epoch by epoch whether a trial is pruned; `attributes` is what the pruner stored with it."""

    def __init__(self, spec: Spec, stem: str, past: list[Past], asked: Past) -> None:
        with _quiet():
            self._study = _study(spec, stem, [*past, asked], None)
        self._id, self._asked = self._study.trials[-1]._trial_id, asked

    def prunes(self, epoch: int, value: float) -> bool:
        with _quiet():
            trial = Trial(self._study, self._id)
            trial.report(value, epoch)
            return trial.should_prune()

    @property
    def attributes(self) -> Attributes:
        found = self._study._storage.get_trial(self._id).system_attrs
        return {name: value for name, value in found.items() if name not in self._asked.attributes}


def importances(spec: Spec, stem: str, past: list[Past]) -> dict[str, float] | None:
    """How much of the objective's variance over complete trials each setting explains (fANOVA, sum 1); None
    where they are too few or all equal."""
    complete = [trial for trial in past if trial.state == "complete"]
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) == 1:
        return None
    with _quiet():
        study = _study(spec, stem, complete, None)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed(spec["seed"], stem, "importance"))
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if not all(math.isfinite(value) for value in found.values()):
        return None
    return {name: float(found[name]) for name in sorted(found)}
