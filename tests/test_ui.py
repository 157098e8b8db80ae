"""A real sweep on a real MLflow server: what its pages, its API and its models say."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browser_fixture import browser as browser
from conftest import Finished, environment
from mirror_fixture import Server
from typer.testing import CliRunner

from analysis import load as ledger
from experiments import track, ui
from experiments.cli import app
from experiments.ledger import Store
from experiments.sweep import load

LOAD = """
import json, sys
import mlflow
import numpy as np
windows, out = np.load(sys.argv[1]), []
for uri in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(uri)
    try:
        model.predict(windows[:, :-1])
    except mlflow.exceptions.MlflowException as error:
        assert "shape" in str(error)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, *windows.shape[1:])
    assert model.input_example.shape == (1, *windows.shape[1:])
    out.append(model.predict(windows).tolist())
print(json.dumps(out))
"""


class Shown(NamedTuple):
    """A store whose sweep a server shows."""

    store: Store
    server: Server
    client: Any
    experiment: str


@pytest.fixture(scope="module")
def shown(
    finished: Finished,
    new_store: Callable[[Path], Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    store, server = new_store(folder / "runs"), Server(folder)
    (store.root / "trials").symlink_to(finished.store.root / "trials")
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", server.address)
            mirror = track.Mirror(store.root, load(finished.file, store).plan())
            assert [mirror.sync(), mirror.sync(), track.Mirror(store.root, mirror.plan).sync()] == [5, 0, 0]
            from mlflow import MlflowClient

            client = MlflowClient(server.address)
            yield Shown(store, server, client, client.get_experiment_by_name("tiny").experiment_id)
    finally:
        server.kill()


def test_each_variants_model_names_the_classes_that_its_trial_named(shown: Shown, tmp_path: Path) -> None:
    from experiments import data
    from experiments.config import RunConfig

    found, told = shown.client.search_logged_models([shown.experiment]), []
    assert {model.name for model in found} == {"plain", "text", "statistics"}
    for model in found:
        folder = shown.store.trial(model.tags["shapelex.signature"])
        result = json.loads((folder / "result.json").read_text())
        config = RunConfig.model_validate(result["config"])
        loaded = data.load_split(config.data, str(result["digests"]["data"]), shown.store.cache)
        with np.load(folder / "predictions.npz") as kept:
            np.save(tmp_path / "windows.npy", loaded.windows.series[kept["window"]])
            told.append([loaded.classes[number] for number in kept["predicted"]])
    uris = [f"models:/{model.model_id}" for model in found]
    command = [sys.executable, "-P", "-c", LOAD, str(tmp_path / "windows.npy"), *uris]
    changes = {"MLFLOW_TRACKING_URI": shown.server.address}
    ran = subprocess.run(command, env=environment(**changes), capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == told
    files = [path for path in (shown.server.folder / "mlartifacts").rglob("models/*/**/*") if path.is_file()]
    kinds = {"", ".json", ".txt", ".yaml", ".safetensors", ".npz", ".npy"}
    assert {path.suffix for path in files} == kinds  # no pickle, no code
    (needs, *_) = [path.read_text() for path in files if path.name == "requirements.txt"]
    assert f"numpy=={np.__version__}\n" in needs and "+cpu" not in needs


def test_the_ledgers_frame_is_the_frame_of_mlflows_search(shown: Shown, finished: Finished) -> None:
    import mlflow

    frame = ledger.frame(finished.store.root, "tiny")
    kind = "tags.`shapelex.kind` = 'trial'"
    mlflow.set_tracking_uri(shown.server.address)
    found = mlflow.search_runs([shown.experiment], kind).set_index("tags.shapelex.signature")
    assert len(found) == len(frame) == 5
    statuses = {"FINISHED": "done", "FAILED": "failed"}
    for _, cell in frame.iterrows():
        run = found.loc[cell["signature"]]
        assert (run["tags.shapelex.row"], run["tags.shapelex.variant"]) == (cell["row"], cell["variant"])
        seed = None if np.any(cell.isna()[["seed"]]) else str(cell["seed"])
        told = run.get("tags.shapelex.seed")
        assert seed == (told if isinstance(told, str) else None)
        assert (run["tags.shapelex.fold"], statuses[run["status"]]) == (str(cell["fold"]), cell["status"])
        numbers = cell[frame.select_dtypes("float64").columns].astype(float)
        shown_as = [run.get(f"metrics.{name}", np.nan) for name in numbers.index]
        assert np.array_equal(numbers.to_numpy(), np.array(shown_as, float), equal_nan=True)
    extra = {c for c in found if c.startswith("metrics.")} - {f"metrics.{name}" for name in frame}
    assert {name.split("/")[0] for name in extra} == {"metrics.epoch", "metrics.system"}


def test_pictures_by_epoch_have_the_names_that_the_uis_slider_reads(shown: Shown) -> None:
    (run,) = shown.client.search_runs([shown.experiment], "tags.`mlflow.runName` = 'text s1'")
    assert run.data.tags["mlflow.loggedImages"] == "true"
    names = [file.path for file in shown.client.list_artifacts(run.info.run_id, "images")]
    parts = [name.removeprefix("images/").split("+") for name in names]
    assert sorted((*p[:4], *p[5:]) for p in parts) == [
        ("training", "step", step, "timestamp", *end)
        for step in ("0", "1")
        for end in ((step, "compressed.png"), (f"{step}.png",))
    ]
    assert {f.path for f in shown.client.list_artifacts(run.info.run_id, "figures")} == {
        "figures/reconstruction.png",
        "figures/code_usage.png",
    }
    points = shown.client.get_metric_history(run.info.run_id, "system/memory_mb")
    assert [point.step for point in points] == [0, 1] and points[0].value > 50


def until(browser: Any, what: Callable[[str], Any]) -> Any:
    """What is found in the page's text as soon as it is; where it never is, a failure with that text."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.wait import WebDriverWait

    def text() -> str:
        return str(browser.execute_script("return document.body.innerText"))

    try:
        return WebDriverWait(browser, 90, 0.5).until(lambda _: what(text()))
    except TimeoutException:
        raise AssertionError(text()) from None


def test_a_real_browser_sees_variants_with_mean_interval_and_n_and_what_they_differ_in(
    shown: Shown, browser: Any
) -> None:
    where = ui.page(shown.store.root, "tiny")
    browser.get(f"{shown.server.address}{where}")
    (run,) = shown.client.search_runs([shown.experiment], "tags.`mlflow.runName` = 'text'")
    values = [str(run.data.metrics[f"test/macro_f1{end}"])[:8] for end in ("", "/ci_low", "/ci_high", "/sd")]
    names = ["plain", "text", "statistics", "test/macro_f1/ci_low", "Does text help?", "attention", "two_way"]
    until(browser, lambda text: all(word in text for word in (*names, *values)))
    assert "text s1" not in until(browser, lambda text: text)  # a variant's trials are folded into it
    rows = [row for row in until(browser, str.splitlines) if row in ("plain", "text", "statistics")]
    assert rows[:3] == ["plain", "text", "statistics"]


def test_a_real_browser_sees_a_bar_for_each_variant(shown: Shown, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    where = ui.page(shown.store.root, None)
    browser.get("about:blank")
    browser.get(f"{shown.server.address}{where}&compareRunsMode=CHART")

    def bars() -> list[str]:
        """The numbers on the first chart's bars."""
        charts = browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")
        first = [chart for chart in charts if chart.find_elements(By.CSS_SELECTOR, ".bars .point")]
        return [point.text for point in first[0].find_elements(By.CSS_SELECTOR, ".point")] if first else []

    runs = shown.client.search_runs([shown.experiment], "tags.`shapelex.kind` = 'row'")
    means = sorted(f"{run.data.metrics['test/macro_f1']:.2f}" for run in runs)
    until(browser, lambda text: "Variants" in text.splitlines() and sorted(bars()) == means)


def test_ui_says_where_the_sweep_is_and_takes_the_next_free_port(
    shown: Shown, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"/#/experiments/{shown.experiment}/runs?"
    for asked in ([], ["tiny"], [str(finished.file)]):
        told = CliRunner().invoke(app, ["ui", *asked, "--store", str(shown.store.root)])
        assert told.exit_code == 0 and f"{shown.server.address}{where}" in told.stdout
    told = CliRunner().invoke(app, ["ui", "nothing", "--store", str(shown.store.root)])
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1) and "'nothing'" in told.stderr
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    began: list[str] = []
    monkeypatch.setattr("os.execvp", lambda name, words: began.extend(words))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = CliRunner().invoke(app, ["ui", "--store", str(finished.store.root), "--port", str(port)])
        chosen = int(began[began.index("--port") + 1])
    assert chosen > port and told.stderr == f"Port {port} is taken: this is {chosen}.\n"
    assert told.stdout.startswith(f"http://127.0.0.1:{chosen}/#/experiments/")


def test_optuna_dashboard_opens_the_sweeps_study(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.store.root / "optuna.db", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(Path(sys.executable).parent / "optuna-dashboard")
    command = [program, f"sqlite:///{tmp_path}/optuna.db", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def asked(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    try:
        for _ in range(300):
            with suppress(OSError):
                asked("/api/studies")
                break
            time.sleep(0.2)
        (study,) = asked("/api/studies")["study_summaries"]
        found = asked(f"/api/studies/{study['study_id']}?after=0")
        results = finished.store.results(p.name for p in finished.store.root.glob("trials/*"))
        scores = sorted(result["metrics"]["val/macro_f1"] for _, result in results if result)
        assert sorted(trial["values"][0] for trial in found["trials"]) == pytest.approx(scores)
    finally:
        process.kill()
        process.wait()
