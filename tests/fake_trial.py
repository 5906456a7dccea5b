"""A trial that needs no torch: it reads its values, writes a run's metrics, and fails in the way that a value names.

python fake_trial.py VALUES.json; `x` is its metric, `how` what it does, or `hows` for some x.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

values = json.loads(Path(sys.argv[1]).read_text())
if not isinstance(values["x"], int | float):
    sys.exit(f"x is {values['x']!r}, which is not a number")
run = Path("logs/fake") / os.environ["WANDB_RUN_ID"]
run.mkdir(parents=True, exist_ok=True)
with Path("started.txt").open("a") as file:
    file.write(f"{values['x']}\n")
how = values.get("hows", {}).get(str(values["x"]), values.get("how", "well"))
steps = values.get("steps", 1)
name = values.get("logs", "val/accuracy")
lines = [f"step,epoch,train/loss,{name}"]
for step in range(steps):
    loss = "nan" if how == "nan" else "0.5"
    lines.append(f"{step},{step},{loss},{values['x'] / 100}")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    time.sleep(values.get("pause", 0.0))
if how == "exception":
    raise RuntimeError("all is lost")
if how == "sentence":
    sys.exit("\x1b[31merror: x must be smaller; give less.\x1b[0m")
if how == "exit 3":
    raise SystemExit(3)
if how == "sigkill":
    os.kill(os.getpid(), signal.SIGKILL)
if how in ("hang", "nan"):
    subprocess.Popen(["sleep", "600"], start_new_session=True)  # a child with a group of its own
    if how == "hang":
        Path("hangs").touch()
    time.sleep(600)
