"""The notebook runs from top to bottom on a made-up ledger."""

from pathlib import Path

import nbformat
import pytest
from ledger_fixture import write_ledger
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "analysis" / "notebooks"


def test_the_comparison_notebook_shows_the_table_and_two_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ledger(tmp_path / "made_up_runs", seeds=2, contrasts=[("z_one_way", "shuffled_samples")])
    monkeypatch.setenv("SHAPELEX_STORE", "made_up_runs")
    monkeypatch.setenv("SHAPELEX_SWEEP", "made_up")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    folder = tmp_path / "analysis" / "notebooks"
    folder.mkdir(parents=True)
    notebook = nbformat.read(NOTEBOOKS / "compare.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = "".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert "| shuffled_samples |" in shown
    assert "Folds share training data" in shown
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_committed_notebook_stores_no_outputs(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
