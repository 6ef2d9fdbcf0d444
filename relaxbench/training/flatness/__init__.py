"""Measure how flat the loss is around a solution."""
