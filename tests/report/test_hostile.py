"""Names that would like to be more than names: all over the page they are text, and nothing of them is executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxbench.analysis.findings import Findings
from relaxbench.report import load_study, write_report
from tests import browser, synthetic
from tests.barriers import barriers
from tests.browser import Visit
from tests.report.test_study_page import HOSTILE
from tests.synthetic import Writer, memory, spec

MARKUP = ".main-svg :is(a, foreignObject, [style*='bold'])"
HOVER = """async canvas => {
  const said = [];
  for (const curveNumber of canvas.data.keys()) {
    Plotly.Fx.hover(canvas, [{ curveNumber, pointNumber: 0 }]);
    await new Promise(resolve => setTimeout(resolve, 70));  // plotly takes no second one within 50 ms
    said.push(...[...canvas.querySelectorAll(".hoverlayer text")].map(each => each.textContent));
  }
  return said;
}"""


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which everything that a person can name is called by every name in turn.

    Of every kind of figure three are drawn, first that of the name which plotly would show in bold.
    """
    asked = spec(
        name=HOSTILE[0],
        description=" ".join(HOSTILE),
        methods=["sgd", *HOSTILE],
        controls=[],
        looks=[6],
        trials=4,
        exploit=4,
        recommend=1,
    )
    about = synthetic.manifest(asked)
    about["problems"]["digits-mlp"] |= {"title": "".join(HOSTILE), "caution": " ".join(HOSTILE), "metric": HOSTILE[4]}
    named = {name: {"kind": "float", "low": 0.5, "high": 1.0, "log": False} for name in HOSTILE}
    for name in HOSTILE:
        about["methods"][name]["title"] = name
    about["methods"][HOSTILE[0]] |= {"scope": "gamma", "space": synthetic.RELAXED | named}
    folder = tmp_path_factory.mktemp("hostile")
    page = write_report(Findings.of(load_study(synthetic.fill(Writer(memory(), asked, about)))), folder)
    return browser.with_each_kind(page, folder / "each.html", asked["problems"], 3, "bold")


def test_names_are_text_everywhere(hostile_page: Path, visit: Visit) -> None:
    page = visit.open(hostile_page)
    browser.unfold(page)
    words = " ".join(page.locator("body").inner_text().split())
    drawn = " ".join(page.locator(".main-svg text").all_text_contents())
    said = page.locator(".canvas[id^=ratio]").evaluate(HOVER)
    for name in HOSTILE:
        assert " ".join(name.split()) in words
        assert name[:20] in drawn  # long ones are shortened
        assert any(text.startswith(name[:20]) for text in said)

    page.locator(".browse select").select_option("trials")
    page.locator(".browse").scroll_into_view_if_needed()
    for name in HOSTILE:
        page.locator(".browse input").fill(name)
        page.locator(".browse tbody tr").first.wait_for()
        assert name in page.locator(".browse tbody tr").first.locator("td").all_text_contents()
    assert {f"params_{name}" for name in HOSTILE} < set(page.locator(".browse th button").all_text_contents())

    assert page.locator(MARKUP).count() == page.locator("main :is(img, iframe, object, [onclick])").count() == 0
    assert page.evaluate("'hacked' in window") is False

    for width in (1200, 390):
        browser.resize(page, width)
        assert barriers(page) == []
        visit.picture(page, f"hostile-{width}")
