"""Coordinate a study: its plan of trials, the workers that claim them, and its progress. No torch here."""
