"""A call of ours that comes back is known, however many stood in between."""

from __future__ import annotations

import pytest

from proxy.core.http.cdn_loop import LoopGuard

A, B = "a" * 16, "b" * 16


def test_our_own_call_is_known() -> None:
    """What we sign comes back as ours, also among what others have added."""
    trail = LoopGuard(A)
    assert trail.field_value == f"graph-sidecar;id={A}"
    assert trail.is_back(trail.field_value)
    assert trail.is_back(f"cloudflare; loops=1, {trail.field_value}; x=1, fastly")


@pytest.mark.parametrize("told", ["", "cloudflare", f"graph-sidecar;id={B}", f"x-graph-sidecar;id={A}", A, f"id={A}"])
def test_what_others_sent_is_not_ours(told: str) -> None:
    """Only a member of our name with our id is."""
    assert not LoopGuard(A).is_back(told)


def test_a_circle_of_two_is_closed() -> None:
    """Batches leave their riders' fields behind, but the ids that were seen go on."""
    first, second = LoopGuard(A), LoopGuard(B)
    assert not second.is_back(first.field_value)
    assert first.is_back(second.field_value)


def test_what_is_remembered_is_bounded() -> None:
    """A caller cannot fill our memory, nor the head of our calls; the newest stay."""
    trail = LoopGuard(A)
    for number in range(100):
        trail.is_back(f"graph-sidecar;id={number:016x}")
    assert len(trail.field_value) < 500
    assert f"{99:016x}" in trail.field_value
    assert trail.field_value.endswith(A)


def test_nothing_but_ids_is_repeated() -> None:
    """What else a caller writes there does not reach Graph."""
    trail = LoopGuard(A)
    trail.is_back("graph-sidecar;id=EAABsecret, secret")
    assert "secret" not in trail.field_value.lower()
