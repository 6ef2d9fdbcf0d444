"""Render pages: templates, figures as JSON, packed tables."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from importlib import resources
from types import CodeType
from typing import Any

from jinja2 import BytecodeCache, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from relaxbench.pages.figure import Figure
from relaxbench.util.files import csv


class _CompiledOnce(BytecodeCache):
    """Templates that this process has compiled: a live page is written again and again."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give a template its code, if its text has been compiled before."""
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template."""
        assert bucket.code is not None
        self._code[bucket.key, bucket.checksum] = bucket.code


_compiled = _CompiledOnce()


def environment(*packages: str) -> Environment:
    """Return the templates of the given packages, then those of this package; all text is escaped."""
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "relaxbench.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        bytecode_cache=_compiled,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"embed": embed, "tied": tied}
    return templates


def page(templates: Environment, name: str, **values: Any) -> str:
    """Return a page that extends ``base.html``: one file, with the script and the style inside."""
    return templates.get_template(name).render(
        style=_asset(templates, "style.css"),
        script=_asset(templates, "page.js") + _asset(templates, "table.js"),
        plotly=_plotly(),
        **values,
    )


def embed(figure: Figure) -> Markup:
    """Return a figure as JSON for the page's script."""
    data = None if figure.data is None else pack(csv(figure.data))
    about = json.dumps({"key": figure.key, "views": figure.views, "axes": figure.axes, "csv": data})
    return safe_json(f'{about[:-1]}, "figure": {figure.figure.to_json()}}}')


def pack(text: str) -> str:
    """Return a text compressed for a page's script; mtime 0 makes two pages of one study identical."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@functools.cache
def _plotly() -> Markup:
    """The third of plotly.js that draws figures with two axes, compressed to a third of its size."""
    library = resources.files("relaxbench.pages") / "plotly" / "plotly-cartesian.min.js"
    return Markup(pack(library.read_text(encoding="utf-8")))


def safe_json(text: str) -> Markup:
    """Return JSON for a script element. Every "<" is escaped: no text can close the element or open a comment."""
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def tied(text: str) -> str:
    """Return a text with no-break spaces between a number and its percent sign, spread or p-value."""
    for part in (" %", " ± ", "p = ", "p < "):
        text = text.replace(part, part.replace(" ", "\u00a0"))
    return text


def _asset(templates: Environment, name: str) -> Markup:
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])
