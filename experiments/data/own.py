"""What data of one's own may call its people, recordings and sensors: shared by the families npz and csv."""

from collections.abc import Iterable


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each name: the one that it is, where all are whole, else its place in their order."""
    known = sorted(set(names))
    if all(name.isascii() and name.isdigit() and name == str(int(name)) for name in known):
        return {name: int(name) for name in known}
    return {name: place for place, name in enumerate(known)}


def sensors(channels: Iterable[str]) -> list[str]:
    """The second-last part of each channel's name, for which units may be given."""
    return sorted({channel.split("_")[-2] for channel in channels if "_" in channel})
