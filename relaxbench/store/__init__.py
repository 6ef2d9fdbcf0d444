"""The database: its tables, opening it, and workers' claims on trials."""
