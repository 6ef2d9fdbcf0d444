"""The database: its tables, opening it, and the claims of workers on trials. No torch.

Start with `schema` (the tables) and `database` (opening one). `claims` hands out trials and stores results, `winners`
has the only rule for the best trial, `transactions` repeats what an outage interrupts.
"""
