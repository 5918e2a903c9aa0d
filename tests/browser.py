"""A page as a real browser shows it: headless Chromium, which may use no network."""

import html
import json
import re
import shutil
import subprocess

import pytest

_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--allow-file-access-from-files", "--virtual-time-budget=20000"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9"),  # no network
]

# Looks at the page from outside, in a frame, so that the page itself stays as it was written and its policy holds.
_PROBE = """<!doctype html><meta charset="utf-8"><iframe src="{address}" width="1200" height="900"></iframe><pre></pre>
<script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  document.querySelector("pre").textContent = JSON.stringify({{
    title: page.title,
    headings: [...page.querySelectorAll("h1, h2, h3")].map(one => one.innerText),
    text: page.body.innerText,
    images: [...page.images].map(one => [one.alt, one.naturalWidth]),
    links: [...page.links].map(one => one.getAttribute("href")),
    tables: [...page.querySelectorAll("table")].map(
      one => [...one.rows].map(row => [...row.cells].map(cell => cell.innerText))),
    width: page.documentElement.scrollWidth,
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
    ran: frame.contentWindow.ran || null,
  }});
}});
</script>"""


def look_at(page, folder):
    """What Chromium made of a page.

    Args:
        page: The file.
        folder: An empty one, for the browser's profile.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine, to look at the page with (Debian: apt-get install chromium)")
    probe = folder / "probe.html"
    probe.write_text(_PROBE.format(address=page.resolve().as_uri()), encoding="utf-8")
    words = [browser, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", probe.resolve().as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)[1]))
