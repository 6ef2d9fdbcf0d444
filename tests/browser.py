"""Our pages in a real browser: Chromium without a network, which reports every error in a page."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000
"""Milliseconds for every action of the browser: on a busy machine a page takes long, but not for ever."""
POLL = 30
"""Milliseconds between two looks at a page: a look at every frame would have the browser draw them all."""

LOCAL = ("file:", "data:", "blob:", "about:")

Scheme = Literal["light", "dark"]


def program() -> str:
    """The system's chromium; without one a test fails, it is not skipped."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.fail("no browser: install chromium (apt-get install chromium), this test needs it")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; while it runs, Playwright's event loop runs in this thread and `asyncio.run` would refuse."""
    with sync_playwright() as playwright:
        options = {"executable_path": program(), "args": ["--no-sandbox", "--disable-dev-shm-usage"]}
        browser = playwright.chromium.launch(timeout=PATIENCE, **options)
        yield browser
        browser.close()


class Visit:
    """Opens pages one after another in the same tab, since a new one takes seconds, and keeps a list of their errors.

    Args:
        browser: where they are opened.
        artefacts: folder of the pictures that `picture` takes; None for no pictures, which take seconds each.

    Attributes:
        wrong: words on a console, uncaught errors, dialogs, requests that are not local.
    """

    def __init__(self, browser: Browser, artefacts: Path | None = None) -> None:
        self.browser, self.artefacts = browser, artefacts
        self.wrong: list[str] = []
        self._tabs: dict[bool, Page] = {}
        self._address = ""

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        for tab in self._tabs.values():
            tab.context.close()
        self.check()

    def check(self) -> None:
        """Nothing has gone wrong in the pages since the last time."""
        wrong, self.wrong = self.wrong, []
        assert wrong == [], wrong

    def open(self, place: Path | str, width: int = 1200, height: int = 900, scheme: Scheme = "light") -> Page:
        """Open a page, instead of the one that was open, and wait until its beginning is drawn.

        Args:
            place: its file, for which there is no network; or the address of a server of ours, which it may ask.
            width, height: of the window, in pixels.
            scheme: what the reader's system prefers.
        """
        page = self._tab(offline=isinstance(place, Path))
        page.goto("about:blank")
        self._address = place if isinstance(place, str) else place.absolute().as_uri()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(media="screen", color_scheme=scheme)
        page.goto(self._address)
        page.wait_for_function("document.documentElement.dataset.drawn", polling=POLL)
        return page

    def leave(self) -> None:
        """Open an empty page in every tab, in place of what was open."""
        for tab in self._tabs.values():
            tab.goto("about:blank")
        self.check()

    def stay(self, place: Path, width: int = 1200, height: int = 900, scheme: Scheme = "light") -> Page:
        """The page as it was left, if it is the one that is open; else open it."""
        page = self._tab(offline=True)
        return (
            page if page.url.partition("#")[0] == place.absolute().as_uri() else self.open(place, width, height, scheme)
        )

    def _tab(self, offline: bool) -> Page:
        if offline not in self._tabs:
            context = self.browser.new_context(offline=offline)
            context.set_default_timeout(PATIENCE)
            page = self._tabs[offline] = context.new_page()
            page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
            page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
            page.on("dialog", self._dialog)
            page.on("request", self._request)
        return self._tabs[offline]

    def picture(self, page: Page, name: str) -> None:
        """Keep the whole page as it looks now, for people who name a folder (RELAXBENCH_ARTEFACTS)."""
        if self.artefacts:
            read_through(page)
            page.screenshot(path=self.artefacts / f"{name}.png", full_page=True)

    def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith((*LOCAL, self._address)):
            self.wrong.append(f"request: {request.url}")


def artefacts() -> Path | None:
    """Where pictures are kept: the folder that RELAXBENCH_ARTEFACTS names; None without one."""
    if not (name := os.environ.get("RELAXBENCH_ARTEFACTS")):
        return None
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def with_one_figure(page: Path, copy: Path) -> Path:
    """A copy of a page with the first of its figures alone: drawing all takes seconds."""
    for figure in re.findall(r'<figure class="plot.*?</figure>', text := page.read_text(), re.DOTALL)[1:]:
        text = text.replace(figure, "", 1)
    copy.write_text(text)
    return copy


def with_each_kind(page: Path, copy: Path, problems: Iterable[str], each: int = 1, word: str = "") -> Path:
    """A copy of a page in which of every kind of figure, for every problem, the largest are drawn, not their like.

    The kind is what a figure's key begins with, before the problem: one that is new is drawn, too. What is not drawn
    keeps its place, its title, its buttons.

    Args:
        page: the page.
        copy: where its copy is written.
        problems: the names of its problems.
        each: how many are drawn of every kind, for every problem.
        word: those with it in their key come before larger ones.
    """
    text, kind = page.read_text(), re.compile(rf"(.+?-({'|'.join(map(re.escape, problems))}))")
    alike: dict[str, list[tuple[bool, int, str]]] = {}
    for figure in re.finditer(r'<div class="canvas" id="([^"]+)".*?</script>', text, re.DOTALL):
        found = kind.match(figure[1])
        assert found, figure[1]
        alike.setdefault(found[1], []).append((word in figure[1], len(figure[0]), figure[0]))
    for figures in alike.values():
        for *_, like in sorted(figures, reverse=True)[each:]:
            place = like.replace('class="canvas"', 'class="left-out"', 1)
            text = text.replace(like, re.sub("<script.*", "", place, flags=re.DOTALL), 1)
    copy.write_text(text)
    return copy


def unfold(page: Page) -> None:
    """Open every part of the page that can be opened, and read through it."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    read_through(page)


def read_through(page: Page) -> None:
    """Scroll through the page and back, as slowly as its figures are drawn."""
    page.evaluate("""async () => {
        const { dataset } = document.documentElement, { scrollHeight } = document.scrollingElement;
        const steps = Math.ceil(scrollHeight / (2 * innerHeight));  // what is within a window's height is drawn, too
        const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
        const frame = () => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
        for (const at of [...Array(steps).keys(), 0]) {
          scrollTo({ top: 2 * at * innerHeight, behavior: "instant" });
          await frame();
          await frame();  // the page has noticed
          while (!dataset.drawn) await wait(5);
        }
    }""")


def undrawn(page: Page) -> list[str]:
    """The figures in sight of someone who reads through the page that show nothing: no trace of any size."""
    read_through(page)
    return page.evaluate("""
        [...document.querySelectorAll("figure.plot .canvas")].filter(canvas => canvas.checkVisibility() &&
          ![...canvas.querySelectorAll(".main-svg .trace, .main-svg .hm image, .main-svg .contour")].some(element => {
            const { width, height } = element.getBoundingClientRect();
            return width + height > 1;
          })
        ).map(canvas => canvas.id)
    """)


def wide(page: Page) -> int:
    """By how many pixels the document is wider than the window: a reader would have to scroll sideways."""
    return page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")


def resize(page: Page, width: int) -> None:
    """Give the window another width, and wait until the figures have followed: nothing is too wide."""
    page.set_viewport_size({"width": width, "height": 900})
    eventually(page, lambda: wide(page) <= 0)


def remember(page: Page) -> None:
    """Keep the content of every figure, its words, its lines, its pictures, for `changed`."""
    page.evaluate(f"() => {{ window.remembered = ({SHOWN})(); }}")


def changed(page: Page) -> list[str]:
    """The figures whose content is another one than `remember` has kept."""
    return page.evaluate(f"""() => {{
        const now = ({SHOWN})();
        return Object.keys(now).filter(each => now[each] !== remembered[each]);
    }}""")


SHOWN = """() =>
    Object.fromEntries([...document.querySelectorAll("figure.plot .canvas")].map(canvas => [canvas.id,
      [...canvas.querySelectorAll(".main-svg :is(text, path, image)")].map(element =>
        element.textContent + (element.getAttribute("d") ?? element.getAttribute("href") ?? "")).join("\\n"),
    ]))
"""


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until something holds in a page."""
    end = time.monotonic() + PATIENCE / 1000
    while not holds():
        assert time.monotonic() < end, "it never came about"
        page.wait_for_timeout(20)


def press_every_switch(page: Page) -> int:
    """Press each button of each switch: it alone is then marked, only its figures change; returns how many."""
    pressed = 0
    read_through(page)  # what is drawn for the first time changes, too
    for switch in page.locator(".switch:visible").all():
        buttons = switch.locator("button")
        marked = [each.get_attribute("aria-pressed") == "true" for each in buttons.all()]
        first = marked.index(True)
        for at in [*range(first + 1, len(marked)), *range(first + 1)]:
            ours = buttons.nth(at).evaluate(WITH_CHOICE)
            remember(page)
            buttons.nth(at).click()
            eventually(page, lambda ours=ours: set(ours) <= set(changed(page)))
            assert changed(page) == ours != []
            marked = [each.get_attribute("aria-pressed") == "true" for each in buttons.all()]
            assert marked == [index == at for index in range(len(marked))]
            pressed += 1
    return pressed


WITH_CHOICE = """
    button => [...document.querySelectorAll("figure.plot:has(.canvas)")].filter(figure => {
      const { views, axes } = JSON.parse(figure.querySelector("script.figure").textContent);
      const beside = button.closest("figure, .group").contains(figure);
      return beside && (button.dataset.view in views || button.dataset.axis in axes);
    }).map(figure => figure.querySelector(".canvas").id)
"""
"""The figures that a button of a switch changes: those next to it that have a view or an axis of its name."""
