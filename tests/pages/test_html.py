"""Text inside a page: JSON that closes no element, and numbers that stay with their signs."""

from __future__ import annotations

import base64
import gzip
import json
import re
from importlib import resources

import pytest
from jinja2 import Environment
from plotly.offline import get_plotlyjs_version

from relaxbench.pages import html
from relaxbench.pages.html import pack, safe_json, tied


def test_safe_json_keeps_its_meaning() -> None:
    text = json.dumps({"a": "</script><!-- & \u2028"}, ensure_ascii=False)
    assert "<" not in safe_json(text) and json.loads(safe_json(text)) == json.loads(text)


def test_packed_text_comes_back_and_is_the_same_every_time() -> None:
    text = "method,value\nHamilton–Jacobi,0.1\n"
    assert gzip.decompress(base64.b64decode(pack(text))).decode() == text and pack(text) == pack(text)


def test_signs_are_tied_to_their_numbers() -> None:
    assert tied("95 % of 3 ± 1, p = 0.03") == "95\u00a0% of 3\u00a0±\u00a01, p\u00a0=\u00a00.03"


def test_a_template_is_compiled_once_however_often_its_page_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_ = Environment.compile

    def counted(self: Environment, source: str, name: str, *rest: str) -> object:
        compiled.append(name)
        return compile_(self, source, name, *rest)

    monkeypatch.setattr(Environment, "compile", counted)
    monkeypatch.setattr(html, "_compiled", html._CompiledOnce())
    for _ in range(2):
        html.environment("relaxbench.report").get_template("index.html")
    assert compiled.count("index.html") == 1


def test_the_library_of_figures_is_of_the_version_by_which_they_are_checked() -> None:
    """tests/pages/test_figure.py lets plotly for Python check them; it brings the whole library along."""
    folder = resources.files("relaxbench.pages") / "plotly"
    first = (folder / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:200]
    version = re.search(r"plotly\.js \(cartesian - minified\) v(\d+)\.", first)
    assert version and version[1] == get_plotlyjs_version().split(".")[0]
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")
