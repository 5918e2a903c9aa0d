"""Figures and the frame of a page."""

import base64
import re

from asrsparse.reports.html_page import figure, write_page


def test_a_figure_has_as_many_panels_as_asked_for_and_is_in_the_page(tmp_path):
    drawn = []
    picture = figure("a < b", lambda *axes: drawn.extend(axes), panels=3)
    assert len(drawn) == 3
    assert base64.b64decode(re.search(r"base64,([^\"]*)", picture)[1]).startswith(b"\x89PNG")
    write_page(tmp_path / "page.html", "What & why", [picture, "{braces}"])
    page = (tmp_path / "page.html").read_text()
    assert "<h1>What &amp; why</h1>" in page
    assert "<h3>a &lt; b</h3>" in page
    assert "{braces}" in page
    assert "img { max-width: 100% }" in page
