"""Names of problems and methods stay whole beside many numbers."""

from __future__ import annotations

import io

from rich.console import Console

from relaxbench.cli.grouped_table import GroupedTable


def test_long_names_are_whole_and_numbers_below_their_headings() -> None:
    listing = GroupedTable("Study s", "method", ["6 blocks", "time"])
    listing.add("multigrid-prolongation-small", {"levenberg-marquardt": ["75", "2.9 min"], "sgd": ["7", "1 s"]})
    listing.add("pinn-wave-small", {"sgd": ["75", "9 s"]}, ["82", "3.0 min"])
    file = io.StringIO()
    Console(file=file, width=48).print(listing.table)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert lines == [
        "Study s",
        "method                        6 blocks     time",
        "multigrid-prolongation-small",
        "  levenberg-marquardt               75  2.9 min",
        "  sgd                                7      1 s",
        "pinn-wave-small                     82  3.0 min",
        "  sgd                               75      9 s",
    ]


def test_markup_in_a_name_is_text() -> None:
    listing = GroupedTable("", "method", ["n"])
    listing.add("[red]p", {"[bold]m": ["1"]})
    file = io.StringIO()
    Console(file=file, width=40).print(listing.table)
    assert "[red]p" in file.getvalue() and "  [bold]m" in file.getvalue()
