"""Figures inside a page: as data URIs, so that the page needs no other file."""

import base64
import io
from typing import NamedTuple

import matplotlib

from analysis import style
from analysis.source import Drawn

LARGEST_SVG = 150_000  # bytes; beyond, a PNG weighs less
DPI = 150
ZOOM = 1.45  # print type is 7 pt, which is small on a screen


class Picture(NamedTuple):
    """uri: an image; width in pixels of a screen; alt: what it shows, for those who can't see it."""

    name: str
    uri: str
    width: int
    alt: str
    caption: str


def picture(name: str, drawn: Drawn) -> Picture:
    """The figure as SVG where that is small, else as PNG; the same figure gives the same bytes."""
    with style.paper(), matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.figure.draw_without_rendering()  # constrained layout makes room for tick labels it saw last
        kind, content = "svg+xml", _saved(drawn, "svg", {"Date": None, "Creator": None})
        if len(content) > LARGEST_SVG:
            kind, content = "png", _saved(drawn, "png", {"Software": None})
    drawn.figure.set_layout_engine("none")
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    width = round(drawn.figure.get_figwidth() * 96 * ZOOM)
    return Picture(name, uri, width, drawn.caption.split(". ")[0].rstrip(".") + ".", drawn.caption)


def _saved(drawn: Drawn, kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
