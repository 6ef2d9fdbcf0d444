"""Small things without a subject of ours: text, files, seeds, memory."""
