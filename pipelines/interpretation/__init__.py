"""Interpretation of a trained network: loading it, its class names, and a file for each subcommand."""
