"""Studies: their definition, the coordination of their trials, and the training.

`definition` reads study files, `coordination` (no torch) plans trials and hands them to workers, and `execution` trains
them. Start with `execution.run`.
"""
