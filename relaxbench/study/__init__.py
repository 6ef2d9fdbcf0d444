"""Studies: their definition, the coordination of their trials by many workers, and their execution."""
