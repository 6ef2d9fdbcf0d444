"""Numbers and words: from a study's frames to verdicts and sentences. No torch, no plotly, no jinja."""
