"""Settings as a person writes them: where each is written, how its type is called, and what was probably meant."""
