"""Run a study's trials: the options of a session, the calibration of engines, and training."""
