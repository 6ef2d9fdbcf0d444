"""The rules: the mathematics of each method, one paper per file.

A file has the formula, the source and the memory first, then the code. Start with `sgd`, then `heat` for an inner loop;
`optim.rule` has the protocol that all of them follow.
"""
