"""How long a replica serves held entries as fresh without asking."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.shared.open_writes import OpenWrites
from proxy.core.shared.trust import LATE_S, TRUST_S, Trust


def test_a_replica_that_never_read_the_log_trusts_nothing() -> None:
    """Neither the log alone nor a sign of life alone is enough."""
    trust = Trust()
    assert trust.until == -math.inf
    trust.on_sign_of_life(5.0)
    assert (trust.until, trust.is_valid(5.0)) == (-math.inf, False)
    trust = Trust()
    trust.on_log_read(5.0)
    assert (trust.until, trust.is_valid(5.0)) == (-math.inf, False)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["log", "sign", "revoke"]), st.floats(0, 100)),
            st.tuples(st.just("writes"), st.integers(0, 3)),
        )
    ),
    now=st.floats(0, 110),
)
def test_what_hits_compare_never_trusts_more_than_the_definition(steps: list[tuple[str, float]], now: float) -> None:
    """`until` is the rule of `is_valid` and of writes in flight in one figure."""
    trust, writes = Trust(), 0
    for what, value in steps:
        if what == "log":
            trust.on_log_read(value)
        elif what == "sign":
            trust.on_sign_of_life(value)
        elif what == "revoke":
            trust.revoke(value)
            assert not trust.has_read_log(value + 1e-9)
        else:
            writes = int(value)
            trust.on_open_writes(writes)
    if now < trust.until - 1e-9:
        assert trust.is_valid(now)
        assert writes == 0
    elif not writes:
        assert not trust.is_valid(now + 1e-9)
    assert trust.until <= trust.log_read_at + TRUST_S
    assert trust.until <= trust.sign_at + LATE_S


def test_while_another_replica_writes_each_hit_is_looked_at_closely() -> None:
    """From the record that opens a write to the one that closes it, or until the write is given up."""
    trust = Trust()
    writes = OpenWrites(lambda nodes, _who: nodes, lambda: 1, trust.on_open_writes)
    trust.on_sign_of_life(10.0)
    trust.on_log_read(10.0)
    assert trust.until == 10.0 + TRUST_S
    writes.open(b"one", ("1",), b"", 60.0)
    writes.open(b"two", ("2",), b"", 70.0)
    trust.on_log_read(10.05)
    assert trust.until == -math.inf
    writes.close(b"one")
    assert trust.until == -math.inf
    writes.expired(71.0)
    assert trust.until == 10.05 + TRUST_S
    writes.open(b"three", (), b"", 60.0)
    writes.clear()
    assert trust.until == 10.05 + TRUST_S
