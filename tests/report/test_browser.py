"""The page in a real browser: every figure is drawn, the console stays silent, nothing is asked of a network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relaxbench.report import load_study, write_report

from . import synthetic
from .synthetic import Writer, memory, spec
from .test_page import HOSTILE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

PROBE = """
<script>
document.addEventListener("DOMContentLoaded", () => {
  const facts = document.createElement("output");
  facts.id = "facts";
  const extra = {};
  const done = setInterval(async () => {
    if (!document.documentElement.dataset.drawn) return;
    clearInterval(done);
    STEPS
    facts.textContent = JSON.stringify({
      drawn: document.querySelectorAll(".canvas .main-svg").length,
      canvases: document.querySelectorAll(".canvas").length,
      lines: document.querySelectorAll(".canvas .trace, .canvas .trace.boxes").length,
      wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
      requests: performance.getEntriesByType("resource").filter(each => !/^(data|blob):/.test(each.name)).length,
      hacked: "hacked" in window,
      extra,
    });
    document.body.append(facts);
  }, 20);
});
</script>
"""


def browse(page: Path, steps: str = "", width: int = 1200) -> tuple[dict[str, Any], str, str]:
    """Open a page; returns what a probe found in it, the document as it then was, and the browser's console."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    assert found, "no browser: install chromium (apt-get install chromium), this test needs it"
    probed = page.with_name(f"probed-{page.name}")
    probed.write_text(page.read_text().replace("<head>", "<head>" + PROBE.replace("STEPS", steps), 1))
    command = [
        found[0], "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--enable-logging=stderr", "--v=0", "--virtual-time-budget=600000", f"--window-size={width},3000",
        f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    # On a starved machine the browser's own clock can run out before an image has been encoded: then once more.
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        match = re.search(r'<output id="facts">(.*?)</output>', done.stdout, re.DOTALL)
        if match:
            break
    assert match, f"the page never finished drawing:\n{done.stderr[-2000:]}"
    return json.loads(html.unescape(match[1])), done.stdout, "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


def check(facts: dict[str, Any], console: str) -> None:
    assert console == ""
    assert facts["canvases"] > 0
    assert facts["drawn"] >= facts["canvases"]  # plotly lays several svg on one canvas
    assert facts["lines"] >= facts["canvases"]
    assert facts["requests"] == 0 and not facts["hacked"] and not facts["wide"]


def test_everything_is_drawn(both_page: Path) -> None:
    facts, document, console = browse(both_page)
    check(facts, console)
    assert facts["canvases"] == 2 * (1 + 1 + 5 + 3 + 1)
    assert "rgb(1, 2, 3)" not in document  # every stand-in has become a colour of the theme


def test_switches_and_theme_on_a_phone(digits_page: Path) -> None:
    steps = """
      document.querySelector('[data-view="validation error (%)"]').click();
      document.getElementById("theme").click();
    """
    facts, document, console = browse(digits_page, steps, width=500)
    check(facts, console)
    assert 'data-theme="dark"' in document
    assert document.count("validation error (%)</text>") == 5
    assert document.count("validation loss</text>") == 1  # of the search, which has no switch


def test_downloads_give_the_numbers_of_the_frames(digits_page: Path) -> None:
    steps = """
      const clicked = [], blobs = {}, make = URL.createObjectURL;
      URL.createObjectURL = blob => { const link = make.call(URL, blob); blobs[link] = blob; return link; };
      HTMLAnchorElement.prototype.click = function () { clicked.push([this.download, this.href]); };
      document.querySelector('[data-name="digits-blocks.csv"]').click();
      document.querySelector('[data-format="svg"]').click();
      while (clicked.length < 2) await new Promise(resolve => setTimeout(resolve, 20));
      for (const [name, link] of clicked) {
        extra[name] = link in blobs ? await blobs[link].text() : decodeURIComponent(link);
      }
    """
    facts, _, console = browse(digits_page, steps)
    check(facts, console)
    assert facts["extra"]["digits-blocks.csv"] == (digits_page.parent / "digits" / "blocks.csv").read_text()
    picture = facts["extra"]["difference-digits-mlp.svg"]
    assert "<svg" in picture and "HEAT" in picture


def test_an_error_would_be_seen(digits_page: Path) -> None:
    _, _, console = browse(digits_page, "console.error('a mistake');")
    assert "a mistake" in console


def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    asked = spec(name="hostile", methods=["sgd", *HOSTILE], controls=[], blocks=6, trials=2, exploit=0, recommend=1)
    about = synthetic.manifest(asked)
    for name in HOSTILE:
        about["methods"][name] |= {"scope": "gamma", "space": synthetic.RELAXED}
    page = write_report(load_study(synthetic.fill(Writer(memory(), asked, about))), tmp_path)
    facts, document, console = browse(page)
    check(facts, console)
    assert "<tspan" not in document or "bold</tspan>" not in document  # plotly's own markup is escaped, too


def test_without_a_browser_the_test_says_so(digits_page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssertionError, match="install chromium"):
        browse(digits_page)
