"""Measure how flat the loss is around a solution.

Start with `measure`. It uses `hessian` (products with the Hessian) and `spectrum` (eigenvalues and traces from
products).
"""
