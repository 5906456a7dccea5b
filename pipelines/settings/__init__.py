"""Settings as the user writes them: location and type of each, checks, and suggestions for mistyped names."""
