"""Functions of a few variables whose minima are known."""
