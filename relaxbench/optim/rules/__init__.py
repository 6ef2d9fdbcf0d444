"""The rules: the mathematics of each method, one paper a file."""
