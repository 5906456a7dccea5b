"""One run of one topic: the command line, its folder, checkpoints, signals and status."""
