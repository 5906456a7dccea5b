"""`python -m tests.full_disk ARGUMENTS`: pipelines.train on a disk where no file can grow beyond 8 KiB."""

import resource
import signal
import sys

from pipelines.train import main

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    main(sys.argv[1:])
