"""The definition of a study: its file, its facts, and whether it may continue.

Start with `spec`, the study file. `facts` describes problems and methods for the manifest, `prepare` tries the problems
out, `opening` creates or continues the study's row.
"""
