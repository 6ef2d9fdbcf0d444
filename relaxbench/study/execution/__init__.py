"""Run the trials of a study.

Start with `run`, a study in this process. `join` works on a study that another process began, `trainer` turns claimed
trials into training, and `calibration` measures engines and costs once per study.
"""
