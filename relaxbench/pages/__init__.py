"""Shared by all pages: figures as plain data, the theme, the HTML frame."""
