"""What `mlflow.pyfunc.load_model` runs for a variant's model: this code, which is installed, and nothing that
lies in the model's folder.

W windows, M channels, T steps.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import classifier


class Named:
    """A classifier that answers with names."""

    def __init__(self, found: classifier.Classifier) -> None:
        self.found, self.names = found, np.array(found.classes)

    def predict(self, x_WMT: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """The class of each raw window (W,)."""
        return self.names[self.found.predict(x_WMT)]


def _load_pyfunc(path: str) -> Named:
    return Named(classifier.load(Path(path)))
