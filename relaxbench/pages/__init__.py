"""The kit that every page shares: figures as plain data, the theme, the HTML frame."""
