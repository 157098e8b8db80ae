"""MLflow's UI on this machine, and the page of a sweep in it. Imports no mlflow."""

import os
import socket
import sys
import time
import webbrowser
from contextlib import suppress
from pathlib import Path

from experiments import board
from experiments.database import missing
from experiments.identity import digest
from experiments.ledger import Store, read_json
from experiments.track import DATABASES, ENVIRONMENT, redact, uri

LAST_PORT = 65535
STARTS_S = 120.0  # at most, on a slow machine


def command(store: Path, port: int) -> tuple[list[str] | None, str]:
    """The command that serves MLflow's UI to this machine alone, and where; (None, hint) where a server does.
    The database goes by this process's environment: a password in a command line is everybody's to read."""
    address = uri(store)
    if not address.startswith(DATABASES):
        return None, f"MLFLOW_TRACKING_URI is a server with a UI of its own: {redact(address).rstrip('/')}"
    if missing(address):
        return None, f"MLflow has nothing of {store} yet: it gets its database from the first run"
    os.environ.update(ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": address})
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", "1", "--artifacts-destination", str(store.resolve() / "mlartifacts")]
    return words, f"http://127.0.0.1:{port}"


def page(store: Path, sweep: str | None) -> str | None:
    """The page of a sweep, behind the UI's address; of the one that was mirrored last where it isn't named.
    None where MLflow shows no such sweep of this store."""
    found = []
    for path in Store(store).root.glob("sweeps/*/mirrored.json"):
        record = read_json(path)
        shown = isinstance(record, dict) and record.get("at") == digest(uri(store)) and "experiment" in record
        if shown and sweep in (None, path.parent.name) and not missing(uri(store)):
            found.append((path.stat().st_mtime, str(record["experiment"])))
    return f"/#/experiments/{max(found)[1]}/runs?{board.QUERY}" if found else None


def free(port: int) -> int:
    """The first free one from `port` on; `port` itself where none is."""
    for one in range(port, LAST_PORT + 1):
        with suppress(OSError), socket.create_server(("127.0.0.1", one)):
            return one
    return port


def browse(address: str, port: int) -> None:
    """Open `address` in the user's browser as soon as the server at `port` answers."""
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            webbrowser.open(address)
            return
        time.sleep(0.2)
