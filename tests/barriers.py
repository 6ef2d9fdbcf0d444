"""Barriers to people who use a page without a mouse, without a screen or with weak eyes, as axe-core finds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""The rules whose answer depends on colours: all others find the same in the light and in the dark page."""

ALIKE = "table:not(.verdicts, .settings, .atlas) tbody tr:nth-child(n+6)"
"""Of a table of numbers, whose rows look alike, the first are enough."""

FEW = 2
"""So many texts of every look have their contrast measured, which takes longer than all other rules together."""


def barriers(page: Page, rules: dict[str, Any] = WCAG) -> list[str]:
    """Violations of WCAG 2, levels A and AA, that axe-core finds in the page.

    Args:
        page: what is looked at. To a reader a figure is one image with a name: its drawing is left out.
        rules: which are checked; `COLOURS` where the same page has been checked in the other scheme.
    """
    with without_drawings(page):
        page.evaluate(AXE_SCRIPT)
        page.evaluate(MARK_ALIKE, FEW)
        found = page.evaluate(RUN, {"hidden": ALIKE, "rules": rules})
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


RUN = """async ({ hidden, rules }) => {
  axe.configure({ rules: [{ id: "color-contrast", selector: ":not([data-alike])" }] });
  const { violations } = await axe.run({ exclude: [[hidden]] }, { runOnly: rules, resultTypes: ["violations"] });
  document.querySelectorAll("[data-alike]").forEach(each => { delete each.dataset.alike; });
  return violations;
}"""

MARK_ALIKE = """few => {
  const behind = new Map(), seen = new Map();  // element → all that is painted behind its text; look → how many texts
  const speaks = element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
  for (const element of document.querySelectorAll("html, body, body *")) {
    const style = getComputedStyle(element);
    const own = [style.backgroundColor, style.backgroundImage, style.opacity, style.filter, style.position].join();
    const plain = own === "rgba(0, 0, 0, 0),none,1,none,static";
    behind.set(element, (behind.get(element.parentElement) ?? "") + (plain ? "" : `${own};`));
    if (!speaks(element) || !element.checkVisibility() || element.closest(":disabled, [aria-disabled]")) continue;
    const look = [
      element.tagName, element.className, style.color, style.fontSize, style.fontWeight, style.textShadow,
      behind.get(element),
    ].join();
    seen.set(look, (seen.get(look) ?? 0) + 1);
    if (seen.get(look) > few) element.dataset.alike = "";
  }
}"""
"""Mark the texts that have the colour, the size and the background of `few` others before them."""


@contextmanager
def without_drawings(page: Page) -> Iterator[None]:
    """Take out what plotly has drawn, thousands of elements, for as long; their places stay."""
    page.evaluate(TAKE_OUT)
    try:
        yield
    finally:
        page.evaluate(PUT_BACK)


TAKE_OUT = """() => {
    window.drawings = [...document.querySelectorAll(".canvas")].map(canvas => {
      const drawing = document.createDocumentFragment();
      const { height } = canvas.style;
      canvas.style.height = `${canvas.offsetHeight}px`;
      drawing.append(...canvas.childNodes);
      return { canvas, drawing, height };
    });
    return drawings.length;
}"""
PUT_BACK = """() => drawings.map(({ canvas, drawing, height }) => {
    canvas.append(drawing);
    canvas.style.height = height;
}).length"""
