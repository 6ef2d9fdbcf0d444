"""Local web pages: a study while it runs, and Optuna's dashboard.

`live` has the page of a running study, `dashboard` Optuna's, and `wsgi` the read-only server for both.
"""
