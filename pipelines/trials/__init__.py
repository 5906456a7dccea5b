"""Processes of a sweep's trials: started cold or warm, watched, and ended with their launcher."""
