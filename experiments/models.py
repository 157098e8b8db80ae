"""Each variant's validation-best trial as a model on the variant's run. Needs mlflow, imports none.

Its folder holds the trial's result, weights as safetensors and a probe as npz: nothing pickled, no code.
Loading runs `experiments.pyfunc` of the ShapeLex that is installed. M channels, T steps.
"""

import importlib.metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from experiments import runcard
from experiments.ledger import Store
from experiments.runcard import Cards, Cell
from experiments.watch import Result

EXAMPLE = Path("model/example.npy")  # a raw window (1, M, T), of trials that can classify
NEEDS = ("numpy", "pydantic", "safetensors", "scikit-learn", "torch", "vector-quantize-pytorch")
TAG = "shapelex.best_trial"


class Known(NamedTuple):
    """A whole model in MLflow. of: the trial and which of its results."""

    model_id: str
    run_id: str
    of: str


class Models:
    """Those of a sweep's rows, as they were found in MLflow and last written."""

    def __init__(self, mlflow: Any, client: Any, experiment: str, cards: Cards, store: Store) -> None:
        self._mlflow, self._client, self._experiment = mlflow, client, experiment
        self._cards, self._store = cards, store
        self._known: dict[str, Known] = {}
        self._wanted: dict[str, tuple[Cell, str] | None] = {}  # the trial, and which of its results

    def choose(self, row: str, results: list[tuple[Cell, Result]], complete: bool) -> None:
        """Have `show` bring the row's run up to these results: a model where all cells have ended."""
        cell = runcard.best(results) if complete else None
        kept = cell is not None and (self._store.trial(cell.signature) / EXAMPLE).is_file()
        # Without the mark of an evaluation, which changes no model.
        of_try = dict(results)[cell].stamp.partition(" ~")[0] if cell else ""
        of = f"{cell.signature} {of_try}" if cell and kept else ""
        self._wanted[row] = (cell, of) if cell and kept else None

    def find(self) -> None:
        """Take stock: keep the first whole model of each row, delete all else, as what a kill left."""
        where = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in self._cards.scope.items())
        found, token = [], None
        while True:
            page = self._client.search_logged_models([self._experiment], where, page_token=token)
            found += page
            if not (token := page.token):
                break
        self._known = {}
        for model in found:
            row = model.tags.get("shapelex.row", "")
            if row in self._cards.rows and row not in self._known and model.status == "READY":
                of = model.tags.get("shapelex.of", "")
                self._known[row] = Known(model.model_id, model.source_run_id, of)
            else:
                self._client.delete_logged_model(model.model_id)

    def shows(self, cell: Cell, run_id: str) -> bool:
        """Whether nothing is missing in MLflow that is made of the cell."""
        wanted, known = self._wanted.get(cell.row), self._known.get(cell.row)
        return wanted is None or wanted[0] != cell or (known is not None and known[1:] == (run_id, wanted[1]))

    def show(self, row: str, run_id: str) -> None:
        """Bring the model of the row, whose run is `run_id`, up to what was chosen."""
        wanted, known = self._wanted.get(row), self._known.get(row)
        if known and (wanted is None or known[1:] != (run_id, wanted[1])):
            if known.run_id == run_id:
                self._client.delete_tag(run_id, TAG)
            self._client.delete_logged_model(known.model_id)
            del self._known[row]
        if wanted and row not in self._known:
            self._known[row] = self._log(*wanted, run_id)

    def _log(self, cell: Cell, of: str, run_id: str) -> Known:
        whose = {f"shapelex.{name}": value for name, value in cell._asdict().items() if value}
        told = {"source_run_id": run_id, "tags": self._cards.scope | whose | {"shapelex.of": of}}
        told |= {"params": self._cards.factors(cell.row), "model_type": "classifier"}
        model = self._client.create_logged_model(self._experiment, _name(cell.row), **told)
        with TemporaryDirectory(prefix="shapelex-") as made:
            self._save(self._store.trial(cell.signature), model, Path(made))
            self._client.log_model_artifacts(model.model_id, f"{made}/whole")
        self._client.log_outputs(run_id, [self._mlflow.entities.LoggedModelOutput(model.model_id, 0)])
        self._client.set_tag(run_id, TAG, cell.signature)
        self._client.finalize_logged_model(model.model_id, "READY")
        return Known(model.model_id, run_id, of)

    def _save(self, trial: Path, model: Any, made: Path) -> None:
        """MLflow's folder of the model, in `made`/whole."""
        types, models = self._mlflow.types, self._mlflow.models
        example = np.load(trial / EXAMPLE, allow_pickle=False)
        windows = types.TensorSpec(example.dtype, (-1, *example.shape[1:]))
        classes = types.TensorSpec(np.dtype("str"), (-1,))
        signature = models.ModelSignature(types.Schema([windows]), types.Schema([classes]))
        (made / "trial").mkdir()
        for name in ("result.json", "model"):
            (made / "trial" / name).symlink_to(trial.resolve() / name)  # followed when it is copied
        self._mlflow.pyfunc.save_model(
            made / "whole",
            loader_module="experiments.pyfunc",
            data_path=made / "trial",
            mlflow_model=models.Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=model.source_run_id,
                model_id=model.model_id,
            ),
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={_version(name)}" for name in NEEDS],
        )


def _name(row: str) -> str:
    """The row's, without the letters that MLflow takes in no name."""
    return row.translate({ord(letter): "_" for letter in "/:.%\"'"})


def _version(package: str) -> str:
    """The installed one, without the build (+cpu), which no index has."""
    return importlib.metadata.version(package).partition("+")[0]
