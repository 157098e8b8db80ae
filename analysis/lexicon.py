"""A trial's code dictionary as arrays.

W held-out windows of B series with K tokens of A axes; N codes of S samples; M channels of T samples; Y
classes; E kinds of evidence, Q concepts; V windows kept for pictures.
"""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = "lexicon.npz"
TEXT = ("evidence", "concepts", "classes", "channels")
OPTIONAL = ("similarity", "x_hat")


@dataclass(frozen=True, eq=False)
class Lexicon:
    """lexicon.npz of one trial; series, mu and sigma in deviations of the training windows.

    Without concepts there are no entries along E and Q, without text no similarities.
    """

    shape: np.ndarray  # (N, A, S) each code decoded, standardised
    z: np.ndarray  # (N, C)
    window: np.ndarray  # (W,) and label, subject, predicted beside it
    label: np.ndarray
    subject: np.ndarray
    predicted: np.ndarray
    code: np.ndarray  # (W, B, K), and t, l beside it, as parts of the series
    t: np.ndarray
    l: np.ndarray  # noqa: E741
    mu: np.ndarray  # (W, B, K, A), and sigma beside it
    sigma: np.ndarray
    token_concept: np.ndarray  # (W, B, K), -1 where none
    p: np.ndarray  # (E, N, Q) probability that code n means concept q
    name: np.ndarray  # (E, N) the concept that is clear of all others, -1 for none
    evidence: tuple[str, ...]
    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    similarity: np.ndarray | None  # (Y, Y) mean cosine of series of class y and text of class y'
    series: np.ndarray  # (V, M, T), and x_hat, its reconstruction, beside it
    x_hat: np.ndarray | None
    drawn: np.ndarray  # (V,) places in `window`
    fit: np.ndarray  # (W, B, K) squared error of a token's shape, both of unit deviation
    contribution: np.ndarray  # (W, B, K) what a token adds to the score of the predicted class
    of_class: np.ndarray  # (Y, Q) which concepts a class has
    named_by: np.ndarray  # () "text", or "labels" where training saw no phrases
    example: (
        np.ndarray
    )  # (N, 5, 2) held-out window and series of the tokens that fit a code best, -1 for none
    example_t: np.ndarray  # (N, 5), and example_l beside it
    example_l: np.ndarray
    example_x: np.ndarray  # (N, 5, A, T) their series

    @property
    def counts(self) -> np.ndarray:
        """(N,) tokens of each code."""
        return np.bincount(self.code.ravel(), minlength=len(self.shape))

    @property
    def order(self) -> np.ndarray:
        """The codes that any token has, the most used first."""
        return np.argsort(-self.counts, kind="stable")[: int((self.counts > 0).sum())]

    def names(self) -> dict[int, tuple[str, float]]:
        """Code -> its name and how probable, by the evidence that counts first; those that have one."""
        named = enumerate(self.name[0]) if len(self.name) else ()
        return {n: (self.concepts[q], float(self.p[0, n, q])) for n, q in named if q >= 0}


def path(store: Path, signature: str) -> Path:
    return Path(store) / "trials" / signature / FILE


def read(store: Path, signature: str) -> Lexicon:
    """A trial's lexicon. Raises OSError where there is none, ValueError where it can't be read or is not of
    the trial's present result."""
    at = path(store, signature)
    try:
        with np.load(at, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        if not _belongs(store, signature, found["result"]):
            raise ValueError(
                f"{at} is of another try of the trial: `shapelex codes {signature}` reads it anew"
            )
        text = {name: tuple(map(str, found[name])) for name in TEXT}
        arrays = {n: found[n] for n in Lexicon.__dataclass_fields__ if n not in (*TEXT, *OPTIONAL)}
    except KeyError as error:
        raise ValueError(f"{at}: expected an array {error}, found {sorted(found)}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{at} is torn: {error}") from None
    optional = {name: found.get(name) for name in OPTIONAL}
    return Lexicon(**{**arrays, **text, **optional})  # type: ignore[arg-type]


def _belongs(store: Path, signature: str, result: np.ndarray) -> bool:
    """result: the format, and what tells the trial's result from the one of another try."""
    try:
        now = json.loads((path(store, signature).parent / "result.json").read_bytes())
        attempt = now.get("attempt")
        stamp = str(now["finished_at"]) + ("" if attempt is None else f" #{attempt}")
    except (OSError, ValueError, KeyError, AttributeError):
        stamp = ""
    return bool(result.tolist()[-1:] == [stamp])
