"""The parts of a drawing as inline SVG: ``markup.element`` with the attributes each part needs.

Used with ``axes.Axis``, which turns numbers into places. Places are in the drawing's own units,
rounded to a tenth; ``kind`` is a class, whose colours and strokes a page's style sheet says. Text
is escaped where it is put in.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.page.markup import Markup, element


def picture(name: str, width: float, height: float, *children: str) -> Markup:
    """A drawing of this size; ``name`` says to those who cannot see it what it shows."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return element("svg", *children, viewBox=box, role="img", aria_label=name)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A line from one place to another."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", class_=kind, **ends)


def rectangle(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    """A rectangle from its upper left corner."""
    sides = {"width": float(width), "height": float(height)}
    return element("rect", class_=kind, x=float(x), y=float(y), **sides)


def circle(kind: str, x: float, y: float, radius: float) -> Markup:
    """A circle around a place."""
    return element("circle", class_=kind, cx=float(x), cy=float(y), r=float(radius))


def path(kind: str, places: Iterable[tuple[float, float]], *, closed: bool = False) -> Markup:
    """Straight lines from place to place."""
    through = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return element("path", class_=kind, d=f"M{through}{'Z' * closed}")


def text(words: str, x: float, y: float, kind: str) -> Markup:
    """Words at a place; ``kind`` says how they are aligned to it."""
    return element("text", words, class_=kind, x=float(x), y=float(y))


def upright(words: str, x: float, y: float, kind: str) -> Markup:
    """Words that run upwards."""
    turned = f"rotate(-90 {x:.0f} {y:.0f})"
    return element("text", words, class_=kind, x=float(x), y=float(y), transform=turned)


def titled(title: str, mark: Markup) -> Markup:
    """A mark that says ``title`` when it is pointed at; the mark alone where that is empty."""
    return element("g", element("title", title), mark) if title else mark
