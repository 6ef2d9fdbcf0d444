"""Small helpers that are independent of the subject: text, files, seeds, memory.

`files` writes files that appear whole or not at all, `text` formats numbers and times, `seeds` derives seeds from
names, and `malloc` keeps freed memory for the next training step.
"""
