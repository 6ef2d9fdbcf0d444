"""The figures of the atlas: performance profiles, one panel per method."""

from __future__ import annotations

import pandas as pd

from relaxbench.analysis.targets import REACH
from relaxbench.pages.figure import Drawing, Figure, single
from relaxbench.pages.theme import INK, MUTED, SHARES, Look, axis, file_name, key_above, layout, plain
from relaxbench.util.text import percent


def profile_panels(table: pd.DataFrame, references: pd.DataFrame) -> list[Figure]:
    """Draw the performance profiles: a panel per method, with the baseline's on the same rows dotted in it.

    Args:
        table: of `profiles.profiles`.
        references: of `profiles.baseline_profiles`.
    """
    if table.empty:
        return []
    methods = {
        str(key): {"rule": key, "title": part["title"].iloc[0]} for key, part in table.groupby("method", sort=False)
    }
    baselines = table.loc[table["role"] == "baseline", "method"]
    baseline = str(baselines.iloc[0]) if len(baselines) else None
    look = Look.of(methods, baseline)
    order = table.drop_duplicates("method").sort_values("score", ascending=False, kind="stable")["method"]
    return [
        _panel(table[table["method"] == method], references[references["method"] == method], look)
        for method in order
        if method != baseline
    ]


def _panel(own: pd.DataFrame, reference: pd.DataFrame, look: Look) -> Figure:
    method, count, score = str(own["method"].iloc[0]), int(own["problems"].iloc[0]), float(own["score"].iloc[0])
    drawing = Drawing()
    for part, colour, dash in ((reference, MUTED, "dot"), (own, look.colours[method], "solid")):
        if part.empty:
            continue
        drawing.add(
            "scatter",
            x=single(part["tau"]),
            y=single(part["share"]),
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2.5, "dash": dash},
            name=plain(str(part["title"].iloc[0])) if part is own else "baseline",
            text=list(map(percent, part["share"])),
            hovertemplate="within %{x:.2f} times the best: %{text} of rows<extra></extra>",
            showlegend=False,
        )
    drawing.update_layout(
        layout(
            height=250,
            xaxis=axis("times the best method's metric") | {"range": [1, REACH], "tickvals": [1, 2, 3, 4]},
            yaxis=axis("") | {"range": [0, 1.03]} | SHARES,
            margin={"l": 8, "r": 16, "t": 34, "b": 48},
        ),
        annotations=[key_above(f"<b>{look.title(method)}</b> · {count} rows · {score:.2f}")],
    )
    drawing.layout["annotations"][0]["font"] = {"color": INK, "size": 13}
    return Figure(
        f"profile-{file_name(method)}",
        f"Performance profile of {look.titles[method]}",
        f"The share of {count} rows on which it is within a factor of the best method; mean height {score:.2f}.",
        drawing,
        data=own,
    )
