"""Any `torch.optim.Optimizer` as a rule: only its `step()` runs member by member, on views of the member's rows.

Start with `make`, which has `wrap`. `locate` finds the class of a path, `arguments` reads its signature, `contents`
describes its state, `part` steps it, `rule` is the rule, and `examine` tries whether an optimizer can be one.
"""

from relaxbench.optim.wrapped.make import wrap

__all__ = ["wrap"]
