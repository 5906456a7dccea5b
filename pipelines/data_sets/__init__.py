"""Data sets as the `data` command lists, downloads, verifies and previews them."""
