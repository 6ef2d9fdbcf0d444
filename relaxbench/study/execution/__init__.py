"""Running a study's trials."""
