"""Experiments as files: every system of a table on the same folds, with the same metric code, one cell at a time."""
