"""Speed on this machine: ratios of things measured side by side in one run, never bare times."""
