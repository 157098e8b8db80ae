"""Which MLflow run shows which trial, read from the store's own MLflow database without importing mlflow."""

import sqlite3
from contextlib import closing
from pathlib import Path

from experiments.database import file_of
from experiments.track import uri

QUERY = """SELECT trial.value, runs.run_uuid FROM runs
JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'shapelex.signature'
JOIN tags AS sweep ON sweep.run_uuid = runs.run_uuid AND sweep.key = 'shapelex.sweep' AND sweep.value = ?
JOIN tags AS mine ON mine.run_uuid = runs.run_uuid AND mine.key = 'shapelex.row' AND mine.value = ?
WHERE runs.lifecycle_stage = 'active' ORDER BY runs.start_time"""


def run_ids(store: Path, sweep: str, row: str) -> dict[str, str]:
    """Signature -> run id of a row's trials; {} where MLflow is a server, or its file can't be read."""
    file = file_of(uri(store))
    if file is None or not file.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=2)) as database:
            return dict(database.execute(QUERY, (sweep, row)).fetchall())
    except sqlite3.Error:
        return {}
