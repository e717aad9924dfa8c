"""Follow the audit trail with redis-py alone.

    python examples/tail_audit.py redis://127.0.0.1:6379 default
    python examples/tail_audit.py redis://127.0.0.1:6379 default --group siem

With --group every entry is acknowledged after it was printed, so a restart goes on where it stopped.
"""

import json
import sys
import time

import redis

url, deployment, *flags = sys.argv[1:]
group = flags[1] if flags[:1] == ["--group"] else None
client = redis.Redis.from_url(url, decode_responses=True)
behind: dict[str, str] = {}  # stream -> last id read; a stream appears with the first entry of its log

while True:
    for key in client.scan_iter(f"audit:{{{deployment}}}:*", _type="stream"):
        if key not in behind and not key.endswith(":checkpoints"):
            behind[key] = "0"  # for a group: what it was given before and never acknowledged
            if group and not any(known["name"] == group for known in client.xinfo_groups(key)):
                client.xgroup_create(key, group, id="0")
    if not behind:
        time.sleep(0.5)
        continue
    read = client.xreadgroup(group, "tail", behind, block=500) if group else client.xread(behind, block=500)
    for key, entries in read or []:
        if group and not entries:
            behind[key] = ">"  # from here on what nobody in the group was given yet
        for entry_id, fields in entries:
            event = json.loads(fields["body"])
            about = event["unmapped"]["rankgate"]
            outcome = {True: "allow", False: "deny"}.get(about.get("allowed"), about["kind"])
            print(outcome, fields.get("subject", "-"), about.get("reason", "-"), event["metadata"]["uid"], flush=True)
            if group:
                client.xack(key, group, entry_id)
            else:
                behind[key] = entry_id
