"""One thread for every test: its small tensors gain nothing from more, and on a busy machine lose much."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported, here and in child processes

# A shell that starts the tests in the background ignores Ctrl-C on their behalf, and every process would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
