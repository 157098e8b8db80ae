"""What a launch asks of a cluster, as `--cluster KEY=VALUE` says it. Nothing of it can change a result."""

import math
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from experiments.limits import seconds
from experiments.yamlfile import nearest
from model.config import Frozen


class Cluster(Frozen):
    """Of each trial, on whatever kind of cluster. gpus: 0 trains on the CPU."""

    gpus: float = Field(0, ge=0)
    cpus: int = Field(1, ge=1)
    memory_gb: float | None = Field(None, gt=0)

    @property
    def device(self) -> str:
        """Where a trial trains, as the machine that it gets names it."""
        return "cuda:0" if self.gpus else "cpu"


class RayCluster(Cluster):
    """address: HOST:PORT, `auto` for the one that this machine is part of, or `local` for a new one of this
    machine alone, as it is without RAY_ADDRESS. gpus below 1: trials share a GPU."""

    address: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "RayCluster":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus={self.gpus:g}: expected a part of one GPU, or whole ones")
        if self.address and not re.fullmatch(r"auto|local|[^/]+:\d{1,5}", self.address):
            raise ValueError(f"address={self.address}: expected HOST:PORT, auto or local")
        return self


def _minutes(value: object) -> object:
    """Whole minutes, rounded up, of e.g. 4h or 2h30m."""
    return math.ceil(seconds(value) / 60) if isinstance(value, str) and not value.isdecimal() else value


class SlurmCluster(Cluster):
    """time: minutes that a job may take, or 4h, 2h30m; a trial that takes longer goes on in another job.
    setup: a shell line that a job runs first. local: rehearse without Slurm, by processes of this machine.
    What else sbatch knows, its SBATCH_* variables say."""

    time: Annotated[int, BeforeValidator(_minutes), Field(ge=5)] = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: str | None = None
    local: bool = False

    @model_validator(mode="after")
    def _check(self) -> "SlurmCluster":
        if self.gpus != int(self.gpus):
            raise ValueError(f"gpus={self.gpus:g}: Slurm gives whole ones; ray shares them")
        return self


CLUSTERS: dict[str, type[Cluster]] = {"ray": RayCluster, "slurm": SlurmCluster}


def parse(executor: str, words: Sequence[str]) -> Cluster | None:
    """What KEY=VALUE words say for an executor; None for one that needs no cluster. Raises ValueError with
    one line."""
    kind = CLUSTERS.get(executor)
    if kind is None:
        if words:
            raise ValueError(f"{words[0]}: --executor {executor} has no cluster, {' and '.join(CLUSTERS)} do")
        return None
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in kind.model_fields:
            raise ValueError(f"{word}: {nearest(key, list(kind.model_fields))}")
        if not equals or key in given:
            raise ValueError(f"{word}: {'given twice' if key in given else f'expected {key}=VALUE'}")
        given[key] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}={first['input']}: " for part in first["loc"])
        raise ValueError(f"{place}{first['msg'].removeprefix('Value error, ')}") from None
