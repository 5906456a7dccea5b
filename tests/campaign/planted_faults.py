"""`python -m tests.campaign.planted_faults FAULT`: a command with a fault that the campaign must find."""

import sys
import time
from pathlib import Path

from tests.campaign.outcome import MARKER


def main(fault: str) -> None:
    data = Path("data.txt").read_text()
    if fault == "traceback":
        raise KeyError("optimizer_states")
    if fault == "hang":
        time.sleep(600)
    if fault == "code":
        Path(MARKER).touch()
    if fault == "leftover":
        Path(".last.ckpt.0.tmp").touch()
    if fault == "status":
        sys.exit(3)
    if fault in ("unexplained", "explained"):
        print("overfitting   FAIL  2 of 50" if fault == "explained" else "overfitting   ok    50 of 50")
        sys.exit(1)
    if fault == "sentence":
        print("error: Namespace(lr=1) is wrong.", file=sys.stderr)
        sys.exit(2)
    if fault == "changed":
        Path("data.txt").write_text("other")
    if fault in ("changed", "refused") or (fault == "careful" and data != "7"):
        print("error: data.txt is damaged; restore it.", file=sys.stderr)
        sys.exit(2)
    if fault == "killed":
        Path("p.csv").write_text("")
        time.sleep(600)
    print(data)
    Path("p.csv").write_text(data)


if __name__ == "__main__":
    main(sys.argv[1])
