"""Numbers and sentences: from the frames of a study to its verdicts. No torch, no plotly, no jinja.

Start with `frames` (a study as pandas frames) and `findings` (all that is concluded from them). `verdicts` decides,
`paired` has the arithmetic, `sentences` the words.
"""
