"""Settings in, server out: `python -m ext_authz --config FILE`."""

import sys

from ext_authz.server import build
from rankgate.clients.serving import run

if __name__ == "__main__":
    sys.exit(run("ext_authz", build))
