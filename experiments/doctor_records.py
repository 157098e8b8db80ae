"""Doctor: leases, the databases of MLflow and Optuna, caches."""

import json
import os
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from experiments import lease, track
from experiments.finding import Finding, broken, look, ok, one_line
from experiments.ledger import Store

CHECK_S = 1.0
NAMED = 5


def leases(store: Store) -> Iterator[Finding]:
    """Who works at the store's trials, and what dead processes left."""
    alive, stale, beats = Counter[str](), 0, list[tuple[str, float]]()
    with suppress(OSError):
        for name in os.listdir(store.root / "trials"):
            found = lease.holder(store.root / "trials" / name)
            if found is None:
                continue
            if found.alive() is None:
                beats.append((str(found), time.time() - found.beat / 1e9))
            elif found.alive():
                alive[str(found)] += 1
            else:
                stale += 1
    for holder, count in alive.most_common(NAMED):
        yield ok(f"{holder} runs {count} trial{'s' * (count > 1)}")
    for holder, ago_s in sorted(beats, key=lambda beat: beat[1])[:NAMED]:
        what = f"{holder}, another machine, runs a trial; its heart last beat {max(ago_s, 0):.0f} s ago"
        gone = ago_s > lease.STALE_S
        yield look(what, "if it is gone, the next launch waits a minute and takes over") if gone else ok(what)
    if stale:
        yield look(f"{stale} trials of dead processes", "nothing: the next launch takes them over")
    elif not alive and not beats:
        yield ok("nobody runs a trial of this store")


def mlflow(store: Path) -> Iterator[Finding]:
    """The database, or the server."""
    address = track.uri(store)
    shown = track.redact(address)
    if address.startswith("sqlite:///"):
        again = "move it away: the next run writes everything again from the ledger"
        yield from _database("MLflow", Path(address.removeprefix("sqlite:///")), "experiments", again)
    elif address.startswith(("http://", "https://")):
        yield _server(address, shown)
    else:
        yield look(f"MLflow at {shown} was not looked at", "shapelex ui shows whether it opens")


def optuna(store: Path) -> Iterator[Finding]:
    again = "move it away: the next run fills another from the ledger"
    yield from _database("Optuna", store / "optuna.db", "studies", again)


def _server(address: str, shown: str) -> Finding:
    parts = urllib.parse.urlsplit(address)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    health = urllib.parse.urlunsplit(plain._replace(path=plain.path.rstrip("/") + "/health"))
    try:
        with urllib.request.urlopen(health, timeout=2) as answer:
            answer.read(16)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return ok(f"MLflow at {shown} answers, to who has its password")
        return broken(f"MLflow at {shown} answers {error.code}", "look into its log")
    except (OSError, ValueError) as error:
        todo = "start it, or unset MLFLOW_TRACKING_URI; meanwhile the ledger keeps everything"
        return broken(f"MLflow at {shown} does not answer: {track.redact(one_line(error))}", todo)
    return ok(f"MLflow at {shown} answers")


def _database(name: str, file: Path, table: str, again: str) -> Iterator[Finding]:
    """An SQLite file: opened for reading alone, CHECK_S of its pages checked."""
    if not file.exists():
        yield ok(f"{name} has no database yet: the first run makes it")
        return
    until, what = time.monotonic() + CHECK_S, f"{name}'s database {file.name}"
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=0.5)) as opened:
            opened.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            tables = {row[0] for row in opened.execute("SELECT name FROM sqlite_master")}
            found = opened.execute("PRAGMA quick_check(1)").fetchone()[0] if table in tables else "ok"
    except sqlite3.Error as error:
        said = str(error)
        if said == "interrupted":
            yield ok(f"{what} opens, and nothing was found in {CHECK_S:.0f} s of checking")
        elif "locked" in said or "busy" in said:
            yield look(f"{what} is locked", "if nothing runs, end the process that holds it (fuser)")
        else:
            yield broken(f"{what}: {said}", again)
        return
    if table not in tables:
        yield broken(f"{what} lacks its tables: its first process was killed as it made them", again)
    elif found != "ok":
        yield broken(f"{what} is damaged: {' '.join(str(found).split())[:120]}", again)
    else:
        yield ok(f"{what} is whole")


def caches(cache: Path) -> Iterator[Finding]:
    """Arrays of windows and embeddings, by their headers and lengths; the file of digests."""
    import numpy as np

    until, bad, count, whole = time.monotonic() + CHECK_S, list[str](), 0, True
    for at, _, names in os.walk(cache):
        for name in names:
            if time.monotonic() > until:
                whole = False
                break
            file = Path(at) / name
            try:
                if name.endswith(".npy"):
                    np.load(file, mmap_mode="r" if file.stat().st_size > 128 else None)
                elif name.endswith(".json"):
                    json.loads(file.read_text())
                else:
                    continue
                count += 1
            except FileNotFoundError:
                continue
            except (OSError, ValueError, EOFError) as error:
                bad.append(f"{file}: {one_line(error)}")
    for line in bad[:NAMED]:
        yield broken(f"cache: {line}", "remove the folder it is in: the next run makes it again")
    if len(bad) > NAMED:
        yield broken(f"{len(bad) - NAMED} more broken files in {cache}", "remove the cache")
    if not bad:
        some = "" if whole else f", the first in {CHECK_S:.0f} s"
        yield ok(f"{count} cached files can be read{some}" if count else "nothing is cached yet")
