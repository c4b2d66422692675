"""What stands in the shared store opens with the secret alone, and only in the place that it was written for."""

from __future__ import annotations

import pytest

from proxy.core.shared import lease, records
from proxy.core.shared.lease import FlightOutcome, Lease, Leases
from proxy.core.shared.records import (
    Changed,
    Closed,
    Content,
    LimitReport,
    Opened,
    Purged,
    Record,
    Refused,
    Reopened,
    Wanted,
)
from proxy.core.shared.wire import UNREADABLE, Box, Id, KeyNames, Position

MASTER, OTHER, NONCE = b"m" * 32, b"o" * 32, b"n" * 12


def test_a_position_is_what_it_was_when_it_is_read_again() -> None:
    """A position is what it was when it is read again."""
    position = Position(b"l" * 16, Id(1_790_000_000_000, 3))
    assert Position.unpack(position.pack()) == position
    assert Id.read(bytes(position.last)) == position.last
    assert Id.read(b"5") == Id(5, 0)


def test_positions_of_one_log_are_ordered_as_its_records() -> None:
    """Positions of one log are ordered as its records."""
    assert Id(1, 9) < Id(2, 0) < Id(2, 1) < Id(10, 0)


@pytest.mark.parametrize("token, binding, master", [("b", b"x", MASTER), ("a", b"y", MASTER), ("a", b"x", OTHER)])
def test_a_box_opens_for_its_own_token_place_and_secret_alone(token: str, binding: bytes, master: bytes) -> None:
    """A box opens for its own token place and secret alone."""
    sealed = Box(MASTER).close("a", b"what was said", b"x", NONCE)
    assert Box(MASTER).open("a", sealed, b"x") == b"what was said"
    assert b"said" not in sealed
    with pytest.raises(UNREADABLE):
        Box(master).open(token, sealed, binding)


def test_names_of_two_secrets_have_nothing_in_common() -> None:
    """Names of two secrets have nothing in common."""
    one, two = KeyNames(MASTER), KeyNames(OTHER)
    assert {one.entry(b"k"), one.log, one.probe("app")}.isdisjoint({two.entry(b"k"), two.log, two.probe("app")})


def test_no_name_shows_what_it_is_about() -> None:
    """No name shows what it is about."""
    assert b"123" not in KeyNames(MASTER).probe("account/123")


def test_flights_of_other_parts_have_other_names() -> None:
    """Flights of other parts have other names."""
    names = KeyNames(MASTER)
    assert len({names.flight(b"ab", b"c"), names.flight(b"a", b"bc"), names.flight(b"abc")}) == 3


WHATS: list[Content] = [
    Opened(b"w" * 8, ("1", "me"), b"f"),
    Closed(b"w" * 8, (), b"f"),
    Changed((("page", "1", ("feed",), ("1_2",)),)),
    Refused(b"f"),
    Purged(id="1"),
    LimitReport(b"f", "/1", "fields=id", 400, (("X-App-Usage", "{}"),), b"{}"),
    Reopened((("app", b"f", "", ""),)),
    Wanted(b"f" * 16, ("id",), ("id", "name")),
]


@pytest.mark.parametrize("what", WHATS, ids=lambda what: type(what).__name__)
def test_every_kind_of_record_is_read_as_it_was_written(what: Content) -> None:
    """Every kind of record is read as it was written."""
    record = Record(b"r" * 8, 7, what)
    sealed = records.seal_record(record, Box(MASTER), KeyNames(MASTER), NONCE)
    assert records.unseal_record(sealed, Box(MASTER), KeyNames(MASTER)) == record


@pytest.mark.parametrize("junk", [b"", b"short", b"x" * 100])
def test_junk_in_the_log_is_no_record(junk: bytes) -> None:
    """Junk in the log is no record."""
    assert records.unseal_record(junk, Box(MASTER), KeyNames(MASTER)) is None


def test_a_lease_holds_for_its_own_flight_alone() -> None:
    """A lease holds for its own flight alone."""
    mine = Lease(b"r" * 8, b"t" * 8, has_time=True)
    packed = Leases(MASTER).pack(mine, b"flight")
    assert Leases(MASTER).unpack(packed, b"flight") == mine
    assert Leases(MASTER).unpack(packed, b"other") is None
    assert Leases(OTHER).unpack(packed, b"flight") is None
    assert Leases(MASTER).unpack(packed[:-1], b"flight") is None


def test_an_outcome_is_accepted_for_the_lease_that_was_joined_alone() -> None:
    """An outcome is accepted for the lease that was joined alone."""
    mine, other = Lease(b"r" * 8, b"t" * 8), Lease(b"r" * 8, b"u" * 8)
    outcome = FlightOutcome(mine.token, 200, (("ETag", '"1"'),), b"{}", "batch", "MISS", asked=1.5)
    sealed = lease.seal_outcome(outcome, Box(MASTER), "token", b"flight", NONCE)
    assert lease.unseal_outcome(sealed, Box(MASTER), "token", b"flight", mine) == outcome
    assert lease.unseal_outcome(sealed, Box(MASTER), "token", b"flight", other) is None
    assert lease.unseal_outcome(sealed, Box(MASTER), "other", b"flight", mine) is None


def test_polls_come_less_often_the_longer_they_wait_and_never_more_than_a_hundred_times_a_second() -> None:
    """Polls come less often the longer they wait and never more than a hundred times a second."""
    pauses = [lease.poll_s(polls, 0.5) for polls in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.01
    assert pauses[-1] == 0.05
    assert sum(lease.poll_s(polls, dice / 10) for polls in range(100) for dice in range(10)) / 10 >= 1
