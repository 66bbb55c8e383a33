"""Targets: what is signed is what is sent."""

from __future__ import annotations

import pytest

from proxy.http.heads import BadHttp
from proxy.http.target import TARGET_LIMIT, canonical_path, decoded, tidy


@pytest.mark.parametrize(
    ("target", "wire", "path", "query"),
    [
        (b"/", b"/", b"/", b""),
        (b"/?", b"/", b"/", b""),
        (b"/logs-*/_search", b"/logs-*/_search", b"/logs-%2A/_search", b""),
        (b"/a%2Fb", b"/a%2Fb", b"/a%252Fb", b""),
        (b"/a%20b,c", b"/a%20b,c", b"/a%2520b%2Cc", b""),
        (
            b"/%3Clogstash-%7Bnow%2Fd%7D%3E",
            b"/%3Clogstash-%7Bnow%2Fd%7D%3E",
            b"/%253Clogstash-%257Bnow%252Fd%257D%253E",
            b"",
        ),
        (b"/%e4%bd%a0", b"/%e4%bd%a0", b"/%25e4%25bd%25a0", b""),
        (b'/a"{b}', b"/a%22%7Bb%7D", b"/a%2522%257Bb%257D", b""),
        (b"//a///b/", b"/a/b/", b"/a/b/", b""),
        (b"/x?b=2&a=1&a=0", b"/x?b=2&a=1&a=0", b"/x", b"a=0&a=1&b=2"),
        (b"/x?q=a+b*,c", b"/x?q=a%20b%2A%2Cc", b"/x", b"q=a%20b%2A%2Cc"),
        (b"/x?q=a%2Bb%2a&pretty", b"/x?q=a%2Bb%2A&pretty", b"/x", b"pretty=&q=a%2Bb%2A"),
        (b"/x?a=%7e&&b==c", b"/x?a=~&b=%3Dc", b"/x", b"a=~&b=%3Dc"),
        (b"/x?X-Amz-Signature=1&a=1&x-amz-credential=2&X-Amz-Algorithm=A", b"/x?a=1", b"/x", b"a=1"),
        (b"/x?X-Amz-Date=1", b"/x", b"/x", b""),
    ],
)
def test_what_is_sent_and_what_is_signed(target: bytes, wire: bytes, path: bytes, query: bytes) -> None:
    """The path as it came, encoded once more for the signature; the query in the one way that stays what it is."""
    found = tidy(target)
    assert (found.wire, found.canonical_path, found.canonical_query) == (wire, path, query)
    assert found.wire == (found.path + b"?" + found.query if found.query else found.path)
    again = tidy(found.wire)
    assert (again.wire, again.canonical_path, again.canonical_query) == (wire, path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"",
        b"index/_search",
        b"http://other.example/_search",
        b"https://169.254.169.254/latest",
        b"//other.example/../_search",
        b"/a/../b",
        b"/a/./b",
        b"/..",
        b"/a/.",
        b"/a/%2e%2e/b",
        b"/a#b",
        b"/a%",
        b"/a%2",
        b"/a%zz",
        b"/x?a=%",
        b"/a b",
        b"/\xc3\xa4",
        b"/a\x00",
        b"/a\r\nX: 1",
        b"/" + b"a" * TARGET_LIMIT,
    ],
)
def test_targets_that_are_refused(target: bytes) -> None:
    """No path, or a path that two readers would take for two."""
    with pytest.raises(BadHttp):
        tidy(target)


@pytest.mark.parametrize(
    ("path", "signed"),
    [
        (b"/", b"/"),
        (b"//", b"/"),
        (b"//a//b", b"/a/b"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/a//", b"/a/"),
        (b"/..", b"/"),
        (b"/a/..", b"/"),
        (b"/-._~0aA", b"/-._~0aA"),
    ],
)
def test_paths_as_aws_signs_them(path: bytes, signed: bytes) -> None:
    """Dot segments and double slashes removed."""
    assert canonical_path(path) == signed


def test_decoding() -> None:
    """Once."""
    assert decoded(b"a%2520b%2Fc") == b"a%20b/c"
