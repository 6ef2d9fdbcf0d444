"""The figures of the report: one file per figure, its data before its drawing."""
