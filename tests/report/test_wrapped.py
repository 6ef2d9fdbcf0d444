"""The page says which class of another package a method is, and with which options."""

from __future__ import annotations

import re
from pathlib import Path

from relaxbench.analysis.findings import Findings
from relaxbench.report import load_study, write_report
from tests import synthetic
from tests.synthetic import Writer, memory, spec


def test_a_wrapped_optimizer_is_named_with_its_options(tmp_path: Path) -> None:
    asked = spec(methods=["sgd", "adam"], controls=[])
    about = synthetic.manifest(asked)
    about["methods"]["adam"] |= {
        "rule": "torch:torch.optim.Adam",
        "source": "torch.optim.Adam, wrapped",
        "options": {"amsgrad": True, "name": "<b>"},
    }
    writer = Writer(memory(), asked, about)
    page = write_report(Findings.of(load_study(writer.close())), tmp_path).read_text(encoding="utf-8")
    rows = re.findall(r"<tr>.*?</tr>", page[page.index("The searched ranges") :], re.DOTALL)
    named = [row for row in rows if "wrapped" in row]
    assert len(named) == 1 and "adam" in named[0]
    assert "torch.optim.Adam, wrapped; amsgrad = True; name = &lt;b&gt;</span>" in named[0]
