"""The terminal: options, error messages and number formats."""
