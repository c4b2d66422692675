from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache.purge import PurgeOrder, Purges, PurgeSubject, read_order
from proxy.core.http.errors import BadRequest
from tests.work import lines_run

ANN, BOB = b"\xaa" * 16, b"\xbb" * 16
ADS = PurgeSubject("/act_1/ads", ("act_1", "/act_1/ads"), ANN)
AD = PurgeSubject("/11", ("11", "/11?"), BOB)


class Few(Purges):
    SUBJECTS = 2
    MARKS = 2


@pytest.mark.parametrize(
    "body, order",
    [
        (b'{"path":"/act_*/ads"}', PurgeOrder(path="/act_*/ads")),
        (b'{"id":"act_1"}', PurgeOrder(id="act_1")),
        (b'{"id":"1_2"}', PurgeOrder(id="1_2")),
        (b'{"fingerprint":"aabbccddeeff"}', PurgeOrder(fingerprint="aabbccddeeff")),
        (b'{"all":true}', PurgeOrder(all=True)),
    ],
)
def test_orders(body: bytes, order: PurgeOrder) -> None:
    """Exactly one thing is said."""
    assert read_order(body) == order


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"all":false}',
        b'{"all":1}',
        b'{"path":""}',
        b'{"path":"/a b"}',
        b'{"path":"//a"}',
        b'{"path":"/a?b"}',
        b'{"path":"/v25.0/act_1"}',
        b'{"path":3}',
        b'{"id":""}',
        b'{"id":3}',
        b'{"id":"1/feed"}',
        b'{"fingerprint":"abc"}',
        b'{"fingerprint":"AABBCCDDEEFF"}',
        b'{"token":"EAAB"}',
        b'{"id":"1","all":true}',
    ],
)
def test_what_is_no_order(body: bytes) -> None:
    """Anything else is refused, with what is allowed, and without repeating what was said: it may be a token."""
    with pytest.raises(BadRequest) as refused:
        read_order(body)
    assert '"all": true' in refused.value.detail
    assert "EAAB" not in refused.value.detail


@pytest.mark.parametrize(
    "order, names, keys",
    [
        (PurgeOrder(path="/act_*/ads"), (), [b"ads"]),
        (PurgeOrder(path="/*"), (), [b"ads", b"ad"]),
        (PurgeOrder(path="/12"), (), []),
        (PurgeOrder(id="11"), ("11", "/act_1/ads"), [b"ads", b"ad"]),
        (PurgeOrder(id="act_1"), ("act_1",), [b"ads"]),
        (PurgeOrder(fingerprint="aaaaaaaaaaaa"), (), [b"ads"]),
        (PurgeOrder(fingerprint="bb" * 16), (), [b"ad"]),
        (PurgeOrder(all=True), (), [b"ads", b"ad"]),
    ],
)
def test_what_an_order_is_about(order: PurgeOrder, names: tuple[str, ...], keys: list[bytes]) -> None:
    """What is known to be held is named at once; what is not is met later, and older than the order."""
    known = Purges()
    known.note(b"ads", ADS)
    known.note(b"ad", AD)
    given = [known.any, known.add(order, names, 10), known.any]
    assert given == [False, keys, True]
    for key, subject in ((b"ads", ADS), (b"ad", AD)):
        assert known.has_forgotten(subject, 10) is (key in keys)
        assert not known.has_forgotten(subject, 10.5)
    assert known.add(order, names, 11) == []


def test_orders_outlive_a_run() -> None:
    """What is written of them says the same to whoever recalls it, however often."""
    given = Purges()
    for when, (order, names) in enumerate(
        [(PurgeOrder(path="/act_*/ads"), ()), (PurgeOrder(id="11"), ("11",)), (PurgeOrder(fingerprint="bb" * 6), ())],
        start=10,
    ):
        given.add(order, names, when)
    later = Purges()
    later.add(PurgeOrder(path="/12"), (), 20)
    for _start in range(2):
        later.load(given.save(), 30)
    assert [(later.has_forgotten(ADS, when), later.has_forgotten(AD, when)) for when in (10, 11, 12, 13)] == [
        (True, True), (False, True), (False, True), (False, False),
    ]  # fmt: skip
    assert later.has_forgotten(PurgeSubject("/12", ("12",), ANN), 20)
    assert len(later._in_force) == 4


@pytest.mark.parametrize("text", [b"", b"[]", b"nonsense", b'{"floor":0}', b'{"floor":0,"marks":[1]}'])
def test_orders_that_cannot_be_read_were_about_everything(text: bytes) -> None:
    """Nothing written means no orders; something that is illegible may have been any."""
    known = Purges()
    known.load(None, 10)
    assert not known.any
    known.load(text, 10)
    assert (known.has_forgotten(ADS, 10), known.has_forgotten(ADS, 11)) == (True, False)


@given(st.lists(st.tuples(st.sampled_from(["/a", "/b", "/c", "/d"]), st.integers(1, 50)), max_size=12))
def test_what_is_forgotten_of_orders_is_assumed(orders: list[tuple[str, Any]]) -> None:
    """With bounded memory nothing that was to be forgotten is ever served."""
    known = Few()
    for number in range(9):
        known.note(b"%d" % number, ADS)
    latest = dict.fromkeys(["/a", "/b", "/c", "/d"], 0)
    for path, now in sorted(orders, key=lambda order: order[1]):
        known.add(PurgeOrder(path=path), (), now)
        latest[path] = now
        assert all(known.has_forgotten(PurgeSubject(each, (), ANN), when) for each, when in latest.items() if when)
        assert len(known._in_force) <= Few.MARKS
    assert len(known._subjects) <= Few.SUBJECTS


def test_a_glob_is_made_ready_once_for_all_that_is_held() -> None:
    """An order is held against many subjects; each costs a few steps, not a translation of the glob."""
    few, many = Purges(), Purges()
    for purges, count in ((few, 100), (many, 1100)):
        for at in range(count):
            purges.note(at.to_bytes(4), PurgeSubject(f"/act_{at}/ads", (), ANN))
    order = PurgeOrder(path="/campaigns_*" + "*x" * 200)
    steps = [lines_run(partial(purges.add, order, (), 1.0)) for purges in (few, many)]
    assert steps[1] - steps[0] < 20 * 1000
