"""Test load and faults: many workers run simulated trials on a real database. Neither torch nor a problem is needed."""
