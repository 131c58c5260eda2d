"""Curves as a picture that a README can hold: SVG, of panels side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 330
HEIGHT: Final = 274
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 48, 44
COLOUR: Final = "#2b6ca3"


@dataclass(frozen=True)
class Panel:
    """What one panel shows: places on the x axis as they are called, and a curve of y values over them."""

    title: str
    x_label: str
    x: Sequence[str]
    y: Sequence[float]


def svg(panels: Sequence[Panel], y_label: str) -> str:
    """Draw panels side by side, all from 0 to the same height, so that they can be compared."""
    top = max(max(panel.y) for panel in panels)
    step = next(step for step in (10_000, 20_000, 25_000, 50_000, 100_000) if top / step <= 6)
    highest = -(-top // step) * step
    body = "".join(_panel(panel, at * WIDTH, step, highest, y_label) for at, panel in enumerate(panels))
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}"'
    style = "<style>text{font:12px system-ui,sans-serif;fill:#777}.title{font-weight:600;font-size:13px}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{body}</svg>\n'


def _panel(panel: Panel, left: float, step: float, highest: float, y_label: str) -> str:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(place: float, value: float) -> tuple[float, float]:
        return (
            round(left + LEFT + wide * place / max(len(panel.x) - 1, 1), 1),
            round(TOP + high * (1 - value / highest), 1),
        )

    parts = [_text(left + LEFT, 18, panel.title, kind="title"), _text(left + LEFT, 32, y_label)]
    for number in range(int(highest / step) + 1):
        x, y = at(0, number * step)
        parts.append(f'<path d="M{x} {y}h{wide}" stroke="#7773"/>')
        parts.append(_text(x - 6, y + 4, f"{number * step / 1000:g}k", anchor="end"))
    for place, label in enumerate(panel.x):
        parts.append(_text(at(place, 0)[0], HEIGHT - BOTTOM + 16, label, anchor="middle"))
    parts.append(_text(left + LEFT + wide / 2, HEIGHT - 8, panel.x_label, anchor="middle"))
    points = [at(place, value) for place, value in enumerate(panel.y)]
    line = "L".join(f"{x} {y}" for x, y in points)
    parts.append(f'<path d="M{line}" fill="none" stroke="{COLOUR}" stroke-width="2"/>')
    parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{COLOUR}"/>' for x, y in points]
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
