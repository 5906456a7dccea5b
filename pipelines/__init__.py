"""The commands: `python -m pipelines.NAME`, or `l231n NAME`."""
