"""Matplotlib's SVG on a page: what it refers to is there, two figures share no names, and the page colours it."""

import re
from typing import Any

import numpy as np
import pytest

from rayfs.reports.figure_style import SERIES, draw_file, draw_svg


def draw(figure: Any) -> None:
    """Draw markers, a clipped line, a legend, an image and a hostile text."""
    left, right = figure.subplots(1, 2)
    left.plot([0, 1, 2], [1, 0, 2], "o-", color=SERIES[0], label="<b>&\x07")
    left.fill_between([0, 1], [0, 1], color=SERIES[1], alpha=0.5)
    left.legend()
    right.imshow(np.zeros((3, 3, 4), dtype=np.uint8), interpolation="none")


@pytest.fixture(scope="module")
def svg() -> str:
    return draw_svg(draw, "<label>", height_in=2)


def test_everything_that_is_referred_to_is_there(svg: str) -> None:
    wanted = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert wanted and wanted <= set(re.findall(r' id="([^"]+)"', svg))


def test_names_of_matplotlib_are_gone_so_that_two_figures_share_none(svg: str) -> None:
    assert not re.search(r' id="[A-Za-z.]+_\d+"', svg) and "matplotlib" not in svg and "DejaVu" not in svg


def test_an_image_is_kept_as_data_without_spaces(svg: str) -> None:
    (data,) = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", data)


def test_colours_and_sizes_stay_and_fonts_are_the_pages(svg: str) -> None:
    assert "stroke: var(--c0)" in svg and "fill: var(--c1)" in svg and "font-size: 8px" in svg
    assert "opacity: 0.5" in svg and "font-family" not in svg and "font:" not in svg


def test_hostile_texts_are_escaped_and_printable(svg: str) -> None:
    assert svg.startswith("<svg viewBox=") and 'aria-label="&lt;label&gt;"' in svg
    assert "&lt;b&gt;&amp;\N{REPLACEMENT CHARACTER}" in svg and "<b>" not in svg


def test_a_file_stands_alone_with_colours_of_its_own() -> None:
    file = draw_file(lambda figure: figure.subplots().plot([0, 1], color=SERIES[1]), height_in=2, width_in=3)
    assert file.startswith(b"<?xml") and SERIES[1].encode() in file and b"var(--" not in file
    assert b'xmlns="http://www.w3.org/2000/svg"' in file and b"#ffffff" in file, "white behind it"
