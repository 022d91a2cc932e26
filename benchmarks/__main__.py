"""``python -m benchmarks cpu``: time gpugrad and its peers side by side."""

import argparse
import sys

from . import cpu


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("cpu", help="training steps, overheads, import time and memory on the CPU")
    command.add_argument("--rounds", type=int, default=15, help="alternations between the peers (default: 15)")
    command.add_argument("--threads", type=int, default=2, help="threads each peer may use (default: 2)")
    command.add_argument(
        "--peers", default=",".join(cpu.PEERS), help="comma-separated (default: all that are installed)"
    )
    command.add_argument("--only", default="", help="comma-separated workloads (default: all)")
    command.add_argument("--out", default=None, help="folder for cpu.json and cpu.md (default: benchmarks/results)")
    options = parser.parse_args()
    return cpu.run(options)


if __name__ == "__main__":
    sys.exit(main())
