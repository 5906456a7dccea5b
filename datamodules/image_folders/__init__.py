"""Data sets of the user's own image files: classes from folders or a CSV file, in memory or decoded batch by batch."""
