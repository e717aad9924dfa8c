"""Memory and size are read from the system, never guessed."""

from __future__ import annotations

import os

from rankgate.demo.footprint import installed_mib, resident_mib


def test_this_process_takes_some_memory() -> None:
    size = resident_mib(os.getpid())
    assert size is not None
    assert 5 < size < 10_000


def test_of_a_process_that_is_not_there_nothing_is_told() -> None:
    assert resident_mib(2**22 + 1) is None


def test_what_is_needed_counts_and_what_only_tests_need_does_not() -> None:
    everything = installed_mib("rankgate", ("embedded", "dev"))
    needed = installed_mib("rankgate", ("embedded",))
    bare = installed_mib("rankgate", ())
    assert everything > needed > bare > installed_mib("click", ()) > 0
    assert installed_mib("no-such-distribution", ()) == 0
