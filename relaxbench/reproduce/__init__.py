"""Tables of the papers, measured again.

`curveball_toys` runs the small problems of the CurveBall paper, with `least_squares` for scipy's solvers; `table`
prints the paper's numbers next to ours.
"""
