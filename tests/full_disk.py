"""`python -m tests.full_disk ARGUMENTS`: pipelines.train where no file grows beyond FULL_DISK_BYTES (default 8 KiB)."""

import os
import resource
import signal
import sys

from pipelines.train import main

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = int(os.environ.get("FULL_DISK_BYTES", "8192"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    main(sys.argv[1:])
