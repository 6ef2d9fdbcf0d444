"""Define a study: its file, its facts, and whether a stored study may continue or grow."""
