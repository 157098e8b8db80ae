"""Who may import whom (DESIGN section 6), read off the sources' import statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for top in ("model", "experiments", "analysis") for path in (ROOT / top).rglob("*.py"))
ONLY = {  # package -> the modules that alone may import it
    "optuna": {"experiments/suggest.py", "experiments/optuna_view.py"},
    "mlflow": {"experiments/track.py"},
    "lightning": {"experiments/lit.py", "experiments/train.py"},
    "openai": {"experiments/llm.py"},
    "ray": {"experiments/ray_executor.py"},
    "submitit": {"experiments/slurm_executor.py"},
    "yaml": {"experiments/yamlfile.py"},
}
LAZY = ("torch", "mlflow", "openai", "optuna", "pandas", "lightning", "ray", "sklearn", "matplotlib")


def imports(path: Path) -> set[str]:
    """Dotted names of every module that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tops(path: Path) -> set[str]:
    return {imported.split(".")[0] for imported in imports(path)}


def test_the_rules_look_at_every_package() -> None:
    assert {"model/vqshape.py", "experiments/cli.py", "analysis/load.py"} <= {name(p) for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_keep_to_the_layers(path: Path) -> None:
    found, layer = tops(path), name(path).split("/")[0]
    if layer == "model":
        assert not found & {"experiments", "analysis"}
    if layer == "analysis":
        assert not found & {"model", "experiments"}
    if layer == "experiments" and not path.name.startswith("cli"):
        assert "analysis" not in found
    for package, allowed in ONLY.items():
        assert package not in found or name(path) in allowed, f"{name(path)} imports {package}"
    assert "pytorch_lightning" not in found  # a second Lightning breaks callbacks in silence (ANCHORS 4)
    bare = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import)]
    assert not {alias.name for node in bare for alias in node.names} & {"model", "experiments", "analysis"}


def test_package_inits_of_model_and_analysis_are_empty() -> None:
    assert (ROOT / "model/__init__.py").read_text() == (ROOT / "analysis/__init__.py").read_text() == ""


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_has_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, experiments.cli; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code, *LAZY], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
