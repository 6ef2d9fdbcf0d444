"""The rules: the mathematics of each method, one paper per file."""
