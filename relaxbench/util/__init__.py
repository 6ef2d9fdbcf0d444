"""Small helpers that are independent of the subject: text, files, seeds, memory."""
