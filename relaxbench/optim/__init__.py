"""The mathematics: one rule a file, schedules, declared hyperparameters."""
