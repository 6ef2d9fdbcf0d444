"""Speed on this machine, as ratios of things measured side by side in one run, never as bare times.

Start with `run`. `trials` compares the engine with plain PyTorch, `steps` the optimizers with PyTorch's SGD, `ledger`
the bill with PyTorch's count of FLOPs; `tables` and `page` show the results.
"""
