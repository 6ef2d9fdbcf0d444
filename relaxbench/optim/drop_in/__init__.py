"""The rules as PyTorch optimizers for any training loop.

`base` has the optimizer that runs a rule, `classes` one class per rule. `groups` and `flat` convert PyTorch's parameter
groups and parameters to what a rule expects.
"""
