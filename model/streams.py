"""Random streams: one per (seed, name), so that adding a module moves nobody else's draws."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream(*names: object) -> int:
    """A 63-bit seed from e.g. (seed, "core.encoder") or (seed, epoch, "order"); equal on every machine."""
    text = "\x1f".join(map(str, names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(*names: object) -> Iterator[None]:
    """Run the body on its own stream of torch's CPU generator; the outer state comes back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(stream(*names))  # torch's own seeds every GPU too
        yield


def generator(*names: object) -> torch.Generator:
    """A CPU generator on its own stream."""
    return torch.Generator().manual_seed(stream(*names))


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Random draws inside move nobody else's: the device's generator comes back as it was."""
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        yield
