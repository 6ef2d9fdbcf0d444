"""The atlas: many studies in one table of problems and methods, as a page and as CSV files.

Verdicts are those of the studies (`analysis.findings`); the atlas computes none. Without torch.
"""
