"""The console: where people see what waits for them, agree or refuse, and look at what became of it.

A process of its own, one per deployment. It holds the key that votes are signed with and the key that previews are
sealed to; never a masking key, an upstream credential or a log key of a gate.
"""
