"""`shapelex sync`: MLflow brought up to the ledger. Heavy imports stay inside."""

import sys
import time
from collections import Counter
from typing import Annotated

import typer

from experiments.cli_sweep import DEFAULT_STORE, StoreOption, SweepFile, load
from experiments.fail import fail

POLL_S = 0.5
TELL_S = 10.0


def sync(
    file: SweepFile,
    store: StoreOption = DEFAULT_STORE,
    wait_s: Annotated[float, typer.Option(min=0, help="for a launch that mirrors the sweep already")] = 60.0,
) -> None:
    """Bring MLflow up to everything that was run; twice adds nothing.

    `shapelex run` does so as it goes: this is for after MLflow was away, or its database lost.
    """
    from experiments import track
    from experiments.ledger import Locked

    sweep, ledger = load(file, store, there=True)
    mirror, until, told = track.Mirror(ledger.root, sweep.plan()), time.monotonic() + wait_s, time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            print(f"{done} of {of} cells", file=sys.stderr)

    while True:
        try:
            wrote = mirror.sync(tell)
            break
        except track.MirrorError as error:
            fail(str(error), 1)
        except Locked as holder:
            behind = len(mirror.pending())
            if behind and time.monotonic() > until:
                fail(f"{sweep.name}: {holder} mirrors it already, and is {behind} cells behind", 1)
            if not behind:
                print(f"{sweep.name}: {holder} mirrors it, and MLflow shows every result.")
                return
            time.sleep(POLL_S)
    for note in mirror.notes:
        print(note, file=sys.stderr)
    shown = Counter(mirror.shown())
    counts = ", ".join(f"{shown[status]} {status}" for status in sorted(shown)) or "no cell was begun"
    print(f"{sweep.name}: wrote {wrote} cells; MLflow shows {counts} of {len(sweep.cells)}.")
    print(f"Experiment '{sweep.name}' at {track.redact(mirror.uri)}")
