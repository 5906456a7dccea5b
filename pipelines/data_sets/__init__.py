"""The data sets that the `data` command lists, downloads, verifies and previews."""
