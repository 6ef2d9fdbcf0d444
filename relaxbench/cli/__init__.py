"""The command line: one file per command, with what it prints.

Start with `main`, which lists the commands. `options` has the options that several commands share, and `console` the
output.
"""
