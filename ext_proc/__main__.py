"""Settings in, server out: `python -m ext_proc --config FILE`."""

import sys

from ext_proc.server import build
from rankgate.clients.serving import run

if __name__ == "__main__":
    sys.exit(run("ext_proc", build))
