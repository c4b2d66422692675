import pytest

from proxy.core.client_batch.split import split_into_calls


@pytest.mark.parametrize("count, sizes", [(0, []), (1, [1]), (50, [50]), (51, [50, 1]), (120, [50, 50, 20])], ids=str)
def test_a_larger_batch_is_split_into_calls_that_graph_takes(count: int, sizes: list[int]) -> None:
    """No call has more than 50 operations, and none is lost or moved."""
    calls = split_into_calls(range(count))
    assert [len(call) for call in calls] == sizes
    assert [at for call in calls for at in call] == list(range(count))
