"""The page: tables and figures in one file that opens offline."""

from __future__ import annotations

import json
from typing import Any

from relaxbench.bench.figures import FIGURES
from relaxbench.bench.tables import TABLES
from relaxbench.pages import html
from relaxbench.util.text import counted


def render(figures: dict[str, Any]) -> str:
    """Render the page from the results of the parts that were measured."""
    parts = [
        {
            "key": part,
            "title": title,
            "tables": tables(figures[part]),
            "figure": FIGURES[part](figures[part]) if part in FIGURES else None,
        }
        for part, (title, tables) in TABLES.items()
        if part in figures
    ]
    machine, about = figures["machine"], figures["about"]
    cores, threads = counted(about["cores"], "core"), counted(machine["threads"], "thread")
    processor = f"{machine['cpu']}, {cores}, {threads} of PyTorch"
    facts = {
        "Measured": about["date"].replace("T", " "),
        "Device": processor if about["device"] == "cpu" else f"{machine['gpu']}, with {processor}",
        "System": machine["platform"],
        "Software": f"relaxbench {about['version']} · Python {machine['python']} · PyTorch {machine['torch']}",
        "Command": about["command"],
    }
    templates = html.environment("relaxbench.bench")
    text = json.dumps(figures, indent=1)
    return html.page(templates, "bench.html", parts=parts, facts=facts, about=about, figures=text)
