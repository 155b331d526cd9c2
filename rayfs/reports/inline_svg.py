"""Matplotlib's SVG made part of a page: the page's font and colours, no names that two figures share."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from markupsafe import Markup

from rayfs.reports.printable import printable

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def inline_svg(drawn: str, label: str, variables: Mapping[str, str]) -> Markup:
    """Return an `svg` element for a page.

    Arguments:
        drawn: an SVG file as matplotlib writes it, its text as text.
        label: what a screen reader says of it.
        variables: colour -> name of the style variable of the page that takes its place.
    """
    root = ElementTree.fromstring(printable(drawn))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _adapt(element, variables)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": printable(label)}
    return Markup(ElementTree.tostring(root, encoding="unicode").strip())


def _adapt(element: ElementTree.Element, variables: Mapping[str, str]) -> None:
    """Shorten one element, which has no namespace any more, and give it the page's colours."""
    attributes = {
        name.removeprefix(_XLINK): ("" if value.startswith("data:") else " ").join(value.split())
        for name, value in element.attrib.items()
    }
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9.]*_\d+", attributes.get("id", "")):
        del attributes["id"]  # "axes_1": of every figure; those of markers and clip paths are hashes, and used
    if "style" in attributes:
        attributes["style"] = _page_style(attributes["style"], variables)
    element.attrib = attributes
    element.tail = None
    if element.text is not None and not element.text.strip():
        element.text = None


def _page_style(style: str, variables: Mapping[str, str]) -> str:
    """Return the rules of a `style` attribute without fonts, but for their size, and with the page's colours."""
    rules = [rule.partition(":") for rule in style.split(";") if rule.strip()]
    kept: dict[str, str] = {}
    for name, _, value in rules:
        name, value = name.strip(), value.strip()
        if name == "font":
            name, value = "font-size", re.findall(r"[\d.]+px", value)[0]
        if name not in ("font-family", "font-stretch"):
            kept[name] = f"var(--{variables[value]})" if value in variables else value
    return "; ".join(f"{name}: {value}" for name, value in kept.items())
