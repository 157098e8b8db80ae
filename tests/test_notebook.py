"""The notebooks run from top to bottom on a small sweep that was really trained."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from conftest import Finished
from nbclient import NotebookClient

from analysis import load

NOTEBOOKS = Path(__file__).parents[1] / "analysis" / "notebooks"
NAMES = ("compare", "codebook", "paper")
FEW = """from analysis import figures
figures.FIGURES = {name: figures.FIGURES[name] for name in ("scores", "robustness")}"""


class Shown:
    """What a notebook's cells put out."""

    def __init__(self, cells: list[nbformat.NotebookNode]) -> None:
        self.outputs = [output for cell in cells for output in cell.get("outputs", [])]

    def of(self, kind: str) -> list[str]:
        return [out["data"][kind] for out in self.outputs if kind in out.get("data", {})]

    @property
    def text(self) -> str:
        printed = [out["text"] for out in self.outputs if out.output_type == "stream"]
        return "\n".join([*printed, *self.of("text/markdown"), *self.of("text/plain")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def shown(finished: Finished, folder: Path) -> Mapping[str, Shown]:
    """All of them in one kernel, which forgets between them; of the paper's figures only the two of FEW."""
    at = folder / "analysis" / "notebooks"
    at.mkdir(parents=True)
    (folder / "runs").symlink_to(finished.store.root)  # found from a folder below it
    frame = load.frame(finished.store.root, "tiny")
    guided = frame.loc[frame["row"] == "text", "signature"].iloc[0]
    settings = {"SHAPELEX_STORE": "runs", "SHAPELEX_SWEEP": "tiny", "SHAPELEX_TRIAL": guided}
    settings |= {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    cells = {name: nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells for name in NAMES}
    forget, few = nbformat.v4.new_code_cell("%reset -f"), nbformat.v4.new_code_cell(FEW)
    whole = nbformat.v4.new_notebook()
    for name in NAMES:
        whole.cells += [forget.copy(), *([few] if name == "paper" else []), *cells[name]]
    resources = {"metadata": {"path": str(at)}}
    client = NotebookClient(whole, timeout=300, kernel_name="python3", resources=resources)
    client.execute(env=os.environ | settings)
    return {name: Shown(of) for name, of in cells.items()}


def test_the_comparison_shows_the_table_and_two_figures(shown: Mapping[str, Shown]) -> None:
    found = shown["compare"]
    assert "| statistics |" in found.text and "no star would be honest" in found.text
    assert len(found.of("image/png")) == 2


def test_the_codebook_shows_codes_names_windows_and_other_seeds(
    shown: Mapping[str, Shown], finished: Finished
) -> None:
    found = shown["codebook"]
    frame = load.frame(finished.store.root, "tiny")
    mine = frame.loc[frame["row"] == "text", "signature"]
    assert mine.iloc[0] in found.text
    # Codes, their use by class (the data have no subjects), two kinds of evidence, reconstructions.
    assert len(found.of("image/png")) == 5 and len(found.of("image/svg+xml")) == 3
    assert all(word in found.text for word in ("near", "meaning/nmi_null", "name_kappa", "predicted"))
    assert all((finished.store.trial(name) / "lexicon.npz").is_file() for name in mine)


def test_the_paper_is_saved_beside_the_store_and_says_what_it_lacks(
    shown: Mapping[str, Shown], folder: Path
) -> None:
    found, out = shown["paper"], folder / "paper"
    assert "Test F1 in percent by class" in found.text and "tiny: no values by subject" in found.text
    assert (
        "its rows cross no settings" in found.text
        and "run `shapelex evaluate sweeps/tiny.yaml`" in found.text
    )
    tables = {f"tiny{end}" for end in (".md", ".csv", ".tex", "-standalone.tex", "-contrasts.csv")}
    by_class = {f"tiny-by-class{end}" for end in (".md", ".csv", ".tex", "-standalone.tex")}
    assert set(os.listdir(out)) == tables | by_class | {"tiny"}
    assert set(os.listdir(out / "tiny")) == {"scores.pdf", "scores.png", "captions.md"}
    assert len(found.of("image/png")) == 1


def test_what_no_setting_names_is_what_the_demo_ran() -> None:
    for name in NAMES:
        first = next(c for c in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells if c.cell_type == "code")
        assert '"SHAPELEX_STORE", "runs"' in first.source and '"SHAPELEX_SWEEP", "quick"' in first.source


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_committed_notebook_stores_no_outputs(path: Path) -> None:
    assert path.stem in NAMES  # executed above
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert all(not cell["metadata"] for cell in notebook["cells"])
