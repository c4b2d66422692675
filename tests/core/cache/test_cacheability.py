import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.cache.cacheability import is_final, is_poll, is_settled
from tests.core.samples import BODY, request
from tests.work import lines_run


@pytest.mark.parametrize(
    "body, lasting",
    [
        (b"{}", True),
        (b'{"name":"x"}', True),
        (b'{"async_status":"Job Running","async_percent_completion":50}', False),
        (b'{"async_status":"Job Completed","async_percent_completion":100}', True),
        (b'{"async_status":"Job Completed","async_percent_completion":99}', False),
        (b'{"async_status" : "JOB COMPLETED"}', True),
        (b'{"async_status":"Job Failed"}', True),
        (b'{"async_status":"Job Skipped"}', True),
        (b'{"async_status":"Job Not Started"}', False),
        (b'{"async_status":null}', False),
        (b'{"async_status":"Job \\"Completed\\""}', False),
        (b'{"async_percent_completion":100.0}', False),
        (b'{"is_completed":false}', False),
        (b'{"is_completed":true}', True),
        (b'{"is_completed":null}', False),
        (b'{"data":[{"is_completed":true},{"is_completed":false}]}', False),
        (b'{"status_code":"IN_PROGRESS"}', False),
        (b'{"status_code":"FINISHED"}', False),  # it may yet be published, or expire
        (b'{"status_code":"PUBLISHED"}', True),
        (b'{"status_code":"EXPIRED"}', True),
        (b'{"status_code":"ERROR"}', True),
        (b'{"status_code":7}', False),
        (b'{"status":"ACTIVE"}', True),
        (b'{"status":"IN_PROGRESS"}', False),
        (b'{"status":"initial"}', False),
        (b'{"status":"PENDING_DEPENDENCY"}', False),
        (b'{"status":"PROCESS_BY_EVENT_PROCESSOR"}', False),
        (b'{"status":{"processing_phase":{"status":"in_progress"}}}', False),
        (b'{"status":{"processing_phase":{"status":"complete"}}}', True),
        (b'{"status":null}', True),
        (b'{"message":"\\"is_completed\\":false"}', True),
        (b'{"message":"is_completed: false"}', True),
        (b'{"x_status_code":"IN_PROGRESS"}', False),
        (b'{"status":{"video_status":"processing"}}', False),
        (b'{"data":[{"id":"1"},{"status":{"video_status":"upload_complete"},"id":"2"}]}', False),
        (b'{"1":{"status":{"video_status":"uploading"}},"2":{"id":"2"}}', False),
        (b'{"status":{"video_status":"ready"}}', True),
        (b'{"status":{"video_status":"anything new"}}', False),
        (b'{"status":"In progress: your media is being processed."}', False),
        (b'{"status":"Finished: Media has been uploaded and it is ready to be published."}', False),
        (b'{"status":"Published: Media has been published."}', True),
        (b'{"status":"FINISHED"}', False),
        (b'{"operation_status":{"code":300,"description":"Being {updated}"},"id":"1"}', False),
        (b'{"operation_status":{"description":"Normal","code":200}}', True),
        (b'{"data":[{"operation_status":{"code":200}},{"operation_status":{"code":"414"}}]}', False),
        (b'{"operation_status":{', False),
        (b'{"effective_status":"PENDING_REVIEW"}', False),
        (b'{"ads":{"data":[{"effective_status":"IN_PROCESS"}]}}', False),
        (b'{"effective_status":"ACTIVE","configured_status":"PAUSED"}', True),
        (b'{"status":{"uploading_phase":{"status":"complete"},"publishing_phase":{"publish_status":"draft"}}}', False),
        (b'{"phases":[{"name":"a","status":"complete"},{"name":"b","status":"waiting"}]}', False),
        (b'{"phases":{"a":{"status":"completed"},"b":{"status":"error"}}}', True),
        (b'{"copyright_check_status":{"status":"in_progress","matches_found":false}}', False),
        (rb'{"message":"the \"status\": \"processing\" one"}', True),
    ],
)
def test_lasting(body: bytes, lasting: bool) -> None:  # noqa: FBT001
    """The body of a job that still runs is never fresh, so nobody polls for ever; what is final may be."""
    assert is_settled(body) is lasting
    assert is_final(request(), body) is lasting


@pytest.mark.parametrize(
    "path, query, poll",
    [
        ("/777", "fields=is_completed,success_count", True),
        ("/777", "fields=id,status.as(s)", True),
        ("/777", "fields=effective_status.as(s)", True),
        ("/777", "fields=id,name.as(status)", False),
        ("/777", "fields=%5B%22async_status%22%5D", True),
        ("/777", "fields=name,status_code", True),
        ("/777/requests", "summary=true", True),
        ("/act_1/asyncadrequestsets", "", True),
        ("/777", "fields=name", False),
        ("/777", "", False),
        ("/requests/1", "fields=id", False),
    ],
)
def test_polls(path: str, query: str, poll: bool) -> None:  # noqa: FBT001
    """A read that asks how far a job has come is never answered unasked, even if its answer does not show that."""
    asked = request(query, path=path)
    assert is_poll(asked) is poll
    assert is_final(asked, BODY) is not poll


def test_a_poll_whose_answer_says_that_it_is_done() -> None:
    """What is asked for as a poll may be final by its own word; a list of jobs grows, whatever it says."""
    done = b'{"is_completed":true}'
    assert is_final(request("fields=is_completed"), done)
    assert not is_final(request(path="/777/requests"), done)


@pytest.mark.parametrize("body", [b'"status":' * 50_000, b'"status":"\\' * 50_000, b'"status"' + b" " * 200_000])
def test_hostile_bodies_cost_no_more_than_their_length(body: bytes) -> None:
    """Whether a body is final is seen in one pass."""
    assert is_settled(body) in {True, False}


def test_stages_within_stages_are_not_read_again_and_again() -> None:
    """What stands in many stages at once is never fresh, and costs a few readings of the body."""
    within = b'"phases":{"status":"complete","x":{'
    assert is_settled(b"{" + within * 2 + b"}" * 5)
    deep = b"{" + within * 100 + b'"y":"' + b"x" * 100_000 + b'"' + b"}" * 201
    assert not is_settled(deep)
    assert lines_run(lambda: is_settled(deep)) < 700


PIECES = [b"{", b"}", b"[", b'"status":', b'"phases":', b'"is_completed":', b'"async_percent_completion":', b'"a"']
PIECES += [b'"IN_PROGRESS"', b"false", b'"operation_status":', b'"upload_phase":', b'"b_status_code":', b",", b"100"]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map(b"".join))
def test_a_body_without_any_of_the_names_is_not_searched_for_them(body: bytes) -> None:
    """Whether a body is final does not depend on the quick look for the names."""
    assert is_final(request(), body) == is_settled(body)
