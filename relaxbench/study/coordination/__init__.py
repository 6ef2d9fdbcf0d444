"""The trials of a study, the workers that run them, and its progress. No torch."""
