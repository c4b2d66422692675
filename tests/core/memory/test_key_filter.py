from __future__ import annotations

from hashlib import blake2b

from proxy.core.memory.key_filter import KEY_BYTES, KeyFilter


def key(number: int) -> bytes:
    """The key of an entry."""
    return blake2b(str(number).encode(), digest_size=KEY_BYTES).digest()


def test_every_key_that_was_added_is_found() -> None:
    """Or a stored entry would be asked for as if it were new."""
    known = KeyFilter(8192)
    known.update(map(key, range(5000)))
    assert all(key(number) in known for number in range(5000))


def test_of_other_keys_few_are_found_until_the_filter_is_crowded() -> None:
    """Each costs a look at the disk in vain."""
    known = KeyFilter(8192)
    number = 0
    while not known.is_crowded:
        known.add(key(number))
        number += 1
    assert 8000 < number < 8500
    assert known.added > 0.98 * number
    assert sum(key(-other) in known for other in range(1, 10_001)) < 300


def test_a_key_counts_once() -> None:
    """A row that is written again makes no filter crowded."""
    known = KeyFilter(64)
    for _ in range(3):
        known.add(key(1))
    assert known.added == 1


def test_the_filter_takes_no_more_than_its_limit() -> None:
    """Its size is the largest power of two that fits."""
    assert [len(KeyFilter(limit)._bits) for limit in (0, 1, 3, 64, 65, 8191)] == [1, 1, 2, 64, 64, 4096]
