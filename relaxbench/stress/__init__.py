"""Load and faults: simulated trials by many workers on a real database. Neither torch nor a problem is needed."""
