"""Numbers and sentences: from the frames of a study to its verdicts. No torch, no plotly, no jinja.

Start with `frames` (a study as pandas frames) and `findings` (all that is concluded from them). `arms` and
`verdicts` decide, by the pure functions of `simultaneous`, `looks` and `all_subsets`; `sentences` has the words.
"""
