"""``python -m benchmarks``: the same as ``fastconv bench``."""

import sys

from fastconv.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
