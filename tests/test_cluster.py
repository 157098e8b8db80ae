"""What --cluster says, and what the command line refuses before anything starts."""

from pathlib import Path

import pytest
from conftest import MICRO
from typer.testing import CliRunner

from experiments.cli import app
from experiments.cluster import CLUSTERS, Cluster, RayCluster, SlurmCluster, parse


def test_words_become_settings_with_their_units() -> None:
    assert parse("ray", ["gpus=0.25", "address=10.0.0.1:6379"]) == RayCluster(
        gpus=0.25, address="10.0.0.1:6379"
    )
    assert parse("slurm", ["time=2h30m", "partition=a", "gpus=1"]) == SlurmCluster(
        time=150, partition="a", gpus=1
    )
    assert parse("slurm", ["time=1170s"]) == SlurmCluster(time=20) and parse("local", []) is None


def test_a_trial_trains_on_the_gpu_that_it_is_given_and_else_on_the_cpu() -> None:
    assert RayCluster(gpus=0.5).device == "cuda:0" and RayCluster().device == "cpu"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("--executor ry", "--executor ry: did you mean 'ray'?"),
        ("--executor ray --cluster gpu=1", "--cluster gpu=1: did you mean 'gpus'?"),
        (
            "--executor ray --cluster gpus=1.5",
            "--cluster gpus=1.5: expected a part of one GPU, or whole ones",
        ),
        (
            "--executor slurm --cluster gpus=0.5",
            "--cluster gpus=0.5: Slurm gives whole ones; ray shares them",
        ),
        ("--executor slurm --cluster time=4x", "--cluster time=4x: 4x: expected a time"),
        (
            "--executor ray --cluster address=ray://a:1",
            "address=ray://a:1: expected HOST:PORT, auto or local",
        ),
        ("--executor ray --cluster gpus", "--cluster gpus: expected gpus=VALUE"),
        ("--executor ray --cluster cpus=1 --cluster cpus=2", "--cluster cpus=2: given twice"),
        (
            "--cluster gpus=1",
            "--cluster gpus=1: --executor local has no cluster, ray and slurm do",
        ),
        ("--executor ray --devices cuda:0", "--cluster gpus=1 asks for one a trial"),
        ("--executor ray --per-gpu 2", "gpus=0.5: two share one"),
        ("--executor slurm", "there is no sbatch here"),
        ("--executor ray --cluster address=127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_what_can_not_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, line: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # a machine without Slurm
    file = tmp_path / "one.yaml"
    file.write_text(f"{MICRO}variants: {{statistics: {{baseline: statistics}}}}\n")
    store = ["--store", str(tmp_path / "runs")]
    ran = CliRunner().invoke(app, ["run", str(file), *store, *command.split()])
    assert ran.exit_code in (1, 2) and line in ran.output.splitlines()[-1], ran.output
    assert not list((tmp_path / "runs").glob("trials/*"))


@pytest.mark.parametrize("kind", CLUSTERS.values())
def test_every_word_of_cluster_has_its_line_in_the_docs(kind: type[Cluster]) -> None:
    text = (Path(__file__).parent.parent / "docs/clusters.md").read_text()
    section = text.split("## Ray" if kind is RayCluster else "## Slurm")[1].split("\n## ")[0]
    for name in kind.model_fields:
        assert f"`{name}`" in section or f"`{name}=" in section, name
