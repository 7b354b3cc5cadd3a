"""Run the demo until its time is over or Ctrl-C; the command behind `make demo`."""

from __future__ import annotations

import argparse
import math
import os
import sys


def main() -> None:
    """Read options and environment, and run."""
    parser = argparse.ArgumentParser(prog="make demo", usage="make demo [DEMO_SECONDS=20] [DEMO_PORT=8765]")
    parser.add_argument("--seconds", type=float, default=os.environ.get("DEMO_SECONDS") or math.inf)
    parser.add_argument("--port", type=int, default=os.environ.get("DEMO_PORT") or "8765")
    options = parser.parse_args()
    try:
        from scripts import demo_run  # slow enough for a Ctrl-C to come in between

        sys.exit(demo_run.run(options.port, options.seconds))
    except KeyboardInterrupt:
        print("Stopped.")


if __name__ == "__main__":
    main()
