"""Read a study from its database into pandas, print a table and draw its learning curves.

python read_a_study.py [DATABASE [STUDY]]

Without arguments: the study that study_your_problem.py left in the current folder. Writes curves.html.
"""

import sys

import plotly.express as px

import relaxbench


def main(database: str = "relaxbench.db", name: str = "moons") -> None:
    """Print one row per method and problem, and draw the runs of the best settings."""
    study = relaxbench.load_study(database, name)
    runs = study.recommended if len(study.recommended) else study.blocks  # each on a seed of its own
    table = runs.groupby(["problem", "method"])["test_metric"].agg(["mean", "std", "count"])
    print(table.round(2).to_string())

    trials = study.trials[study.trials["status"] == "done"]
    best = trials.sort_values("value").groupby(["problem", "method"]).first()
    for (problem, method), params in best["params"].items():
        print(f"{problem}, best of {method}: {params}")

    curves = study.curves[study.curves["phase"] == "confirm"]
    figure = px.line(
        curves, x="gradients", y="validation_metric", color="method", line_group="trial_id", facet_col="problem"
    )
    figure.write_html("curves.html", include_plotlyjs=True)
    print(f"curves.html: {curves['trial_id'].nunique()} runs, {len(curves)} points")


if __name__ == "__main__":
    main(*sys.argv[1:])
