"""Requests that a page in a browser may have made. PURE."""

from __future__ import annotations

import re
from typing import Final

from proxy.http.heads import RequestHead

_ADDRESS: Final = re.compile(rb"[0-9.]+").fullmatch

_SILENT: Final = frozenset({b"GET", b"HEAD"})
"""Methods with which a page asks its own origin and its browser adds no Origin, and over http no Sec-Fetch-Site either.
https://fetch.spec.whatwg.org/#append-a-request-origin-header, https://www.w3.org/TR/fetch-metadata/"""


def may_be_a_pages(head: RequestHead, *, named: bool) -> str:
    """Why a request may be a web page's, and what to do about it; empty where it cannot. `named`: it came under a name
    that is the operator's, because the listener lists its hosts or a certificate bears it."""
    if head.browser:
        return "browsers need a listener that asks for client certificates"
    if named or head.method not in _SILENT:
        return ""
    name = head.host.partition(b":")[0].rstrip(b".").lower()
    if b"." not in name or name.endswith(b".localhost") or _ADDRESS(name):
        return ""  # whoever writes a page owns no such name
    shown = name[:255].decode("latin-1")
    return f"say localhost or an address for {shown!r}, which a page could have, or have it listed in `http.hosts`"
