"""Loggers of a run: its own and those of the user, and what they are given: name, settings, summary."""
