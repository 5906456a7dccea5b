"""One thread for every test: its small tensors gain nothing from more, and on a busy machine lose much."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported, here and in child processes
