"""What two rooms need and neither owns; nothing here imports another room."""
