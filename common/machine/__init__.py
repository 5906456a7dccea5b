"""What this machine offers: cores, and number formats of its devices."""
