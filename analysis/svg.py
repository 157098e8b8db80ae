"""Small drawings for pages, as SVG text: they print well and weigh little."""

from collections.abc import Sequence
from html import escape

import numpy as np


def path(x: np.ndarray, y: np.ndarray, colour: str, width: float = 1.2) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def box(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    told = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}">'
        f"{told}</rect>"
    )


def words(x: float, y: float, text: str, size: float = 10, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}">{escape(text)}</text>'


def drawing(width: float, height: float, parts: Sequence[str], label: str) -> str:
    """label: what it shows, for those who can't see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def level(y: np.ndarray, low: float, high: float, top: float, bottom: float) -> np.ndarray:
    """Values as heights of a drawing, where down is more; what is beyond low and high is cut off."""
    part = (np.clip(y, low, high) - low) / max(high - low, 1e-9)
    return bottom - part * (bottom - top)


def colour(number: int) -> str:
    """Colours that differ from their neighbours, however many there are."""
    return f"hsl({(47 + number * 137.508) % 360:.0f} 65% {42 + 10 * (number % 3)}%)"
