"""``python -m benchmarks cpu`` and ``gpu``: time gpugrad and its peers side by side."""

import argparse
import sys

from . import cpu, gpu


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
    command.set_defaults(run=cpu.run)
    command = commands.add_parser(
        "gpu",
        help="everything on a GPU, in ten minutes",
        description=gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = [name for group in gpu.PARTS for name in group]
    command.add_argument("--only", default="", help=f"comma-separated parts (default: {','.join(parts)})")
    command.add_argument("--workloads", default="", help="comma-separated kernels and training steps (default: all)")
    command.add_argument("--peers", default="", help="comma-separated (default: all that are there)")
    command.add_argument("--data-dir", help="folder with MNIST's original files (default: the bundled subset)")
    command.add_argument("--out", default=None, help="folder for the report (default: benchmarks/results)")
    command.add_argument("--limit", type=float, default=560, help="seconds for everything (default: 560)")
    command.add_argument("--commit", help="what the report names as the commit, where git cannot tell")
    command.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    command.set_defaults(run=gpu.run)
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
