"""The figures of the report: one file per figure, its data before its drawing.

Each file has a function that computes a data frame and one that draws it; start with `cost`. `report.sections` calls
them.
"""
