"""Follow the audit trail with redis-py alone.

    python examples/tail_audit.py redis://127.0.0.1:6379 default
    python examples/tail_audit.py unix:///path/to/rankgate-state/valkey.sock default --group siem

With --group every entry is acknowledged after it was printed, so a restart goes on where it stopped.
"""

import argparse
import json
import signal
import sys
import time

import redis

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("url")
parser.add_argument("deployment")
parser.add_argument("--group")
given = parser.parse_args()
group: str | None = given.group
behind: dict[str, str] = {}  # stream -> last id read; a stream appears with the first entry of its log


def step(client: redis.Redis) -> None:
    for key in client.scan_iter(f"audit:{{{given.deployment}}}:*", _type="stream"):
        if key not in behind and not key.endswith(":checkpoints"):
            if group and not any(known["name"] == group for known in client.xinfo_groups(key)):
                client.xgroup_create(key, group, id="0")
            behind[key] = "0"  # for a group: what it was given before and never acknowledged
    if not behind:
        time.sleep(0.5)
        return
    read = client.xreadgroup(group, "tail", behind, block=500) if group else client.xread(behind, block=500)
    for key, entries in read or []:
        if group and not entries:
            behind[key] = ">"  # from here on what nobody in the group was given yet
        for entry_id, fields in entries:
            about = json.loads(fields["body"])["unmapped"]["rankgate"]
            outcome = {True: "allow", False: "deny"}.get(about.get("allowed"), about["kind"])
            print(
                outcome, fields.get("subject", "-"), about.get("reason", "-"), about.get("decision_id", "-"), flush=True
            )
            if group:
                client.xack(key, group, entry_id)
            else:
                behind[key] = entry_id


for number in (signal.SIGINT, signal.SIGPIPE):
    signal.signal(number, signal.SIG_DFL)  # end at once and without a traceback
try:
    client = redis.Redis.from_url(given.url, decode_responses=True)
except ValueError as error:
    sys.exit(str(error))
while True:
    try:
        step(client)
    except redis.ConnectionError:
        print(f"no connection to {given.url}, trying again", file=sys.stderr)
        time.sleep(2)
