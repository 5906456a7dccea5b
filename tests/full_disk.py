"""`python -m tests.full_disk PIPELINE BYTES ARGUMENTS`: a pipeline on a disk where no file can grow beyond BYTES."""

import importlib
import resource
import signal
import sys

if __name__ == "__main__":
    pipeline, limit, *arguments = sys.argv[1:]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    importlib.import_module(f"pipelines.{pipeline}").main(arguments)
