"""What the gate costs: measured against plain Envoy and against filters that do nothing, in one run.

    bodies      the calls that are sent, by number of documents
    load        a client fast enough not to be what is measured, in a process of its own
    upstream    a reranker that answers at once, in a process of its own
    floor       both filters with empty handlers: what gRPC in Python costs before any work
    meter       CPU time and memory of processes, from /proc
    contenders  what is compared, each a whole running gate
    rounds      short interleaved measurements, their medians and spread
    stages      where our own time goes
"""
