"""HTML and SVG that cannot be broken by what is put into it: all text is escaped, once.

    element("p", "off by ", element("b", name), class_="quiet")

``element`` makes one element, ``side_by_side`` puts several together, ``escaped`` is what text
becomes. A ``Markup`` is never escaped again, by Jinja's templates neither (``__html__``), so that
what is made here can be put into a template. ``svg`` and ``axes`` build drawings on this.
"""

from __future__ import annotations

import html
from typing import Final

LONGEST: Final = 400  # characters of a text from outside (a compiler's words, a path)
_EMPTY: Final = frozenset(("meta", "link", "path", "circle", "rect", "line"))
_CONTROL: Final = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "�")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()

    def __html__(self) -> str:
        """How templates ask for markup."""
        return self


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """An element: children in order, text among them escaped.

    Args:
        name: of the element.
        children: ``Markup`` is taken as it is, any other string is text.
        attributes: ``class_`` and ``aria_label`` stand for ``class`` and ``aria-label``; None
            leaves one out, True gives it no value, numbers are rounded to what a drawing shows.
    """
    inside = "".join(_attribute(k, v) for k, v in attributes.items())
    if name in _EMPTY:
        return Markup(f"<{name}{inside} />")
    return Markup(f"<{name}{inside}>{side_by_side(*children)}</{name}>")


def side_by_side(*children: str) -> Markup:
    """Children beside each other, without an element around them."""
    return Markup("".join(c if isinstance(c, Markup) else escaped(c) for c in children))


def escaped(text: str) -> Markup:
    """Text from anywhere as markup that shows it, and nothing else; long texts are cut."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return Markup(html.escape(short.translate(_CONTROL)))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
    return f' {name}="{escaped(text)}"'
