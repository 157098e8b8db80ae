"""How every verb of the command line refuses: one line on stderr, and a status."""

import sys
from typing import NoReturn

import typer


def fail(line: str, status: int = 2) -> NoReturn:
    print(line, file=sys.stderr)
    raise typer.Exit(status)
