"""Training scripts as arms of a study: what a script sees of its trial, and how a study runs it.

`trial.Trial` is the script's side. `host` is a process that runs the script once for every trial, `runs` its other
end, in the worker. Nothing here imports torch: a script may use any framework, or none.
"""
