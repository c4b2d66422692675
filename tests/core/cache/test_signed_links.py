"""When the signed links in a body expire."""

import pytest

from proxy.core.cache.signed_links import expiry


@pytest.mark.parametrize(
    "body, ends",
    [
        (b'{"url":"https://scontent.xx.fbcdn.net/v/1.jpg?_nc_cat=1&oh=00_A&oe=65A1B2C3"}', 0x65A1B2C3),
        (b'{"url":"https:\\/\\/scontent.xx.fbcdn.net\\/v\\/1.jpg?oh=00_A\\u0026oe=65a1b2c3"}', 0x65A1B2C3),
        (b'{"url":"https://lookaside.fbsbx.com/x?oe=65A1B2C3&oh=1"}', 0x65A1B2C3),
        (b'{"url":"https://platform-lookaside.fbsbx.com/p/?asid=1&height=50&ext=1705095875&hash=A"}', 1705095875),
        (b'{"url":"https:\\/\\/x.fbsbx.com\\/p?asid=1\\u0026ext=1705095875\\u0026hash=A"}', 1705095875),
        (b'{"url":"https://x/safe.php?url=https%3A%2F%2Fscontent%2F1.jpg%3Foh%3D1%26oe%3D65A1B2C3&cb=1"}', 0x65A1B2C3),
        (b'{"url":"https://x/1?ext\\u003d1705095875"}', 1705095875),
        (b'{"a":"https://x/1?oe=65A1B2C3","b":"https://x/1?ext=1705095874","c":"https://x/1?oe=FFFFFFFF"}', 1705095874),
        (b'{"a":"<a href=\'https://x/1?a=1&amp;oe=65A1B2C3\'>"}', 0x65A1B2C3),
        (b'{"text":"next=1705095875 foe=65A1B2C3 oe=65A1B2C3 ext=1705095875"}', 0),
        (b'{"url":"https://x/1?oe=65A1B2C&ext=170509587"}', 0),
        (b'{"url":"https://x/1?oe=65A1B2C31&ext=17050958751"}', 0),
        (b'{"url":"https://x/1?xoe=65A1B2C3&next=1705095875"}', 0),
        (b"{}", 0),
    ],
)
def test_when_signed_links_end(body: bytes, ends: int) -> None:
    """Links of Meta's CDN say when they end, in hexadecimal or decimal digits, however JSON writes them."""
    assert expiry(body) == ends
