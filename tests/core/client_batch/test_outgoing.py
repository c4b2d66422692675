from typing import Any

import pytest

from proxy.core.client_batch import outgoing
from proxy.core.client_batch.operation import plain_read
from proxy.core.routing.classify import Read
from tests.core import samples
from tests.core.samples import ONE, envelope, only

NOBODY: frozenset[str] = frozenset()


def test_the_call_as_a_whole() -> None:
    """A batch's own call carries its token and proof, and asks for header fields whatever the caller wants of them."""
    whole = envelope(ONE, include_headers=False, callback="cb", appsecret_proof="p", appsecret_time="7")
    assert outgoing.top_level(whole, [ONE]) == {
        "access_token": "TOP",
        "appsecret_proof": "p",
        "appsecret_time": "7",
        "include_headers": "true",
        "batch": '[{"relative_url":"1"}]',
    }
    assert set(outgoing.top_level(envelope(ONE), [ONE])) == {"access_token", "include_headers", "batch"}


def test_what_is_unknown_goes_on() -> None:
    """Unknown members of an operation reach Graph unchanged, and so does its body, byte for byte."""
    body = "m=a+b%26 c&&x"
    item = {"method": "post", "relative_url": "1/feed", "body": body, "attached_files": "f", "new": [1, None]}
    assert outgoing.filled_operation(only(item), "1/feed", body, names=NOBODY, named=False) == item


@pytest.mark.parametrize(
    "given, names, found",
    [
        ("a", {"a"}, "a"),
        ("a", set(), None),
        (["a", "b"], {"a", "b"}, ["a", "b"]),
        (["a", "b"], {"b"}, "b"),
        (["a", "b"], set(), None),
    ],
)
def test_an_operation_depends_on_those_that_go_with_it(given: object, names: set[str], found: object) -> None:
    """The dependencies of a part of a split batch name only operations of that part."""
    whole = envelope({**ONE, "name": "a"}, {**ONE, "name": "b"}, {**ONE, "depends_on": given})
    item = outgoing.filled_operation(whole.operations[2], "1", "", names=frozenset(names), named=False)
    assert item.get("depends_on") == found


def test_filled_texts_and_a_voice() -> None:
    """References are filled in; Graph must not omit the response of an operation that others refer to."""
    whole = envelope({**ONE, "name": "a"}, {"relative_url": "{result=a:$.id}", "body": "x={result=a:$.id}"})
    item = outgoing.filled_operation(whole.operations[1], "7", "x=7", names=NOBODY, named=True)
    assert item == {"relative_url": "7", "body": "x=7", "omit_response_on_success": False}


@pytest.mark.parametrize("name, named", [("", False), ("n", True)])
def test_a_read_goes_in_normal_form(*, name: str, named: bool) -> None:
    """A plain read inside a batch asks just as it would in a batch of strangers, in its place among its own."""
    given = {"relative_url": "1?fields=b,a", "name": name, "depends_on": ["a", "b"]}
    whole = envelope({**ONE, "name": "a"}, {**ONE, "name": "b"}, given)
    read = plain_read(whole.operations[2], "1?fields=b,a", whole, samples.HOSTS, samples.NO_RULES)
    assert isinstance(read, Read)
    asked = read.request.with_validator('"e"')
    item = outgoing.normal_operation(whole.operations[2], asked, names=frozenset({"b"}), named=named)
    assert item["relative_url"] == "v25.0/1?fields=a,b&access_token=TOP"
    assert item["headers"] == ['If-None-Match: "e"']
    assert item["depends_on"] == "b"
    assert item.get("name", "") == name
    assert item.get("omit_response_on_success", True) is not named


@pytest.mark.parametrize(
    "item, files",
    [
        ({}, ()),
        ({"attached_files": ""}, ()),
        ({"attached_files": "a"}, ("a",)),
        ({"attached_files": "a, b,"}, ("a", "b")),
        ({"attached_files": {"File0": "a", "File1": "b"}}, ("a", "b")),
        ({"attachedFiles": "a"}, ("a",)),
    ],
)
def test_the_files_of_an_operation(item: dict[str, Any], files: tuple[str, ...]) -> None:
    """Parts are named in a list with commas, in an object as by Meta's Java SDK, or misspelled as by its Node SDK."""
    assert outgoing.files_of(item) == files
