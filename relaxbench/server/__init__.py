"""Local web pages: a study while it runs, and Optuna's dashboard."""
