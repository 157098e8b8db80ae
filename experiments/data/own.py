"""What data of one's own may call its people, recordings and sensors: shared by the families npz and csv."""

from collections.abc import Iterable

from experiments.signals import parts


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each name: the one that it is, where all are whole, else its place in their order."""
    known = sorted(set(names))
    if all(name.isascii() and name.isdigit() and name == str(int(name)) for name in known):
        return {name: int(name) for name in known}
    return {name: place for place, name in enumerate(known)}


def sensors(channels: Iterable[str]) -> list[str]:
    """What units may be given for: each channel's sensor, or the channel itself where it has no axis."""
    return sorted({parts(channel)[1] or channel for channel in channels})
