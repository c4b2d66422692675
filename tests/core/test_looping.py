"""A call of ours that comes back is known, however many stood in between."""

from __future__ import annotations

import pytest

from proxy.core.looping import Trail

A, B = "a" * 16, "b" * 16


def test_our_own_call_is_known() -> None:
    """What we sign comes back as ours, also among what others have added."""
    trail = Trail(A)
    assert trail.signed == f"graph-sidecar;id={A}"
    assert trail.is_back(trail.signed)
    assert trail.is_back(f"cloudflare; loops=1, {trail.signed}; x=1, fastly")


@pytest.mark.parametrize("told", ["", "cloudflare", f"graph-sidecar;id={B}", f"x-graph-sidecar;id={A}", A, f"id={A}"])
def test_what_others_sent_is_not_ours(told: str) -> None:
    """Only a member of our name with our id is."""
    assert not Trail(A).is_back(told)


def test_a_circle_of_two_is_closed() -> None:
    """Batches leave their riders' fields behind, but the ids that were seen go on."""
    first, second = Trail(A), Trail(B)
    assert not second.is_back(first.signed)
    assert first.is_back(second.signed)


def test_what_is_remembered_is_bounded() -> None:
    """A caller cannot fill our memory, nor the head of our calls; the newest stay."""
    trail = Trail(A)
    for number in range(100):
        trail.is_back(f"graph-sidecar;id={number:016x}")
    assert len(trail.signed) < 500
    assert f"{99:016x}" in trail.signed
    assert trail.signed.endswith(A)


def test_nothing_but_ids_is_repeated() -> None:
    """What else a caller writes there does not reach Graph."""
    trail = Trail(A)
    trail.is_back("graph-sidecar;id=EAABsecret, secret")
    assert "secret" not in trail.signed.lower()
