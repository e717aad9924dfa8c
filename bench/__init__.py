"""What the gate costs: measured against plain Envoy and against filters that do nothing, in one run.

bodies      the calls that are sent, by number of documents
load        a client fast enough not to be what is measured, in a process of its own
upstream    a reranker that answers at once, in a process of its own
floor       both filters with empty handlers: what gRPC in Python costs before any work
ground      what every contender stands on: reranker, issuer, running gates
contenders  what is compared
meter       CPU time and memory of processes, from /proc
rounds      short interleaved measurements, their medians and spread
plan        which contenders meet which workloads, and the budgets
detection   the detector alone, beside Presidio
waiting     callers held for a person, beside ordinary calls: `python -m bench.waiting`; held and people are its parts
report      JSON and tables; picture draws them; page publishes them; `python -m bench` runs all of it
stages      where our own time goes: `python -m bench.stages`
restart     each part restarted under load: `python -m bench.restart`
"""
