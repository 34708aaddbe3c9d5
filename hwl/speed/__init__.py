"""Counting and timing: systems in runtimes, side by side."""
