"""HTML and SVG from Python, escaped by the standard library: a text can never become an element."""

from __future__ import annotations

from xml.etree import ElementTree

Element = ElementTree.Element


def e(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """An element. `class_` is `class`, `stroke_width` is `stroke-width`; an attribute that is None is left out."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), str(value))
    return add(made, *children)


def add(parent: Element, *children: Element | str | None) -> Element:
    """Append to an element, and return it. Nothing comes of None."""
    for child in children:
        if isinstance(child, str):
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + child
            else:
                parent.text = (parent.text or "") + child
        elif child is not None:
            parent.append(child)
    return parent


def html(root: Element) -> str:
    """The document as text. The content of `style` is not escaped (HTML has it so): never put a foreign text there."""
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"
