"""Counting and timing: models in runtimes, side by side."""
