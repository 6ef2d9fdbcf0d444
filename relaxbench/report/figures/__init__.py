"""The figures of the report: one file a figure, its data before its drawing."""
