"""How flat the loss is around a solution."""
