"""The kit that every page shares: figures as plain data, the theme, the HTML frame.

`figure` collects a figure, `theme` gives it colours and axes, and `html` puts it on a page that opens offline.
"""
