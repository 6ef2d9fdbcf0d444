"""What every page of ours shares: templates, figures as JSON, files that appear whole or not at all."""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from relaxbench.report.figures import Figure


def environment(*packages: str) -> Environment:
    """Templates of this package, before them those of the packages named; all text is escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "relaxbench.report")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"embed": embed, "tied": tied}
    return made


def page(templates: Environment, name: str, **values: Any) -> str:
    """A page that extends ``base.html``: one file, with the script and the style inside."""
    return templates.get_template(name).render(
        style=_asset(templates, "style.css"),
        script=_asset(templates, "page.js"),
        plotly=Markup(get_plotlyjs()),
        **values,
    )


def embed(figure: Figure) -> Markup:
    """A figure as JSON for the page's script."""
    data = None if figure.data is None else pack(csv(figure.data))
    about = json.dumps({"key": figure.key, "views": figure.views, "csv": data})
    return safe_json(f'{about[:-1]}, "figure": {figure.figure.to_json()}}}')


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV text; settings are JSON, so that they stay whole."""
    if "params" in frame:
        params = [json.dumps(each, ensure_ascii=False, sort_keys=True) for each in frame["params"]]
        frame = frame.assign(params=params)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def pack(text: str) -> str:
    """Compressed text for a page's script; mtime 0 keeps two pages of one study the same."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def safe_json(text: str) -> Markup:
    """JSON for a script element: no "<" is left, so that no text can close the element or open a comment."""
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def tied(text: str) -> str:
    """Ties a percent sign, a spread and a p-value to their number."""
    for loose in (" %", " ± ", "p = ", "p < "):
        text = text.replace(loose, loose.replace(" ", "\u00a0"))
    return text


def write(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _asset(templates: Environment, name: str) -> Markup:
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])
