"""Experiment trackers: a study's runs, curves, costs, verdicts and report, sent where a person asks for it.

`runs` has what is sent, `tracker` what every tracker can do, and one file per tracker how it does it. Nothing is sent
without being asked for, and no tracker takes part in a study: see `cli.log` and `cli.tracking`.
"""
