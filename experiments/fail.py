"""How every verb of the command line refuses: one line on stderr, and a status."""

import sys
from typing import NoReturn

import typer


def fail(line: str, status: int = 2) -> NoReturn:
    from experiments.yamlfile import one_line

    print(one_line(line), file=sys.stderr)
    raise typer.Exit(status)
