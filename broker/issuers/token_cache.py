"""Tokens shared by all workloads: AWS throttles new IAM logins, reportedly not those that reuse a token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.audit import Counters
from broker.model import ChainKey, IssuedCredential
from tollbridge.model import Product

MAX_TOKENS: Final = 16_384
"""About 2 KB each."""
REISSUE_BELOW: Final = 1 / 3
"""A token with less than this part of its life left is not handed out again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """Every input that changes a token, but the time. Structured: no name can be written so as to be another."""

    product: Product
    region: str
    audience: tuple[str, ...]
    """What it is made for: a host and port, a cache's name, a cluster and what was asked of it."""
    db_user: str
    chain: ChainKey
    access_key_id: str
    db_name: str = ""
    """Where the token opens no other logical database."""


class TokenCache:
    """Tokens by key, bounded."""

    def __init__(self, *, now: Callable[[], datetime], counters: Counters, capacity: int = MAX_TOKENS) -> None:
        self._now = now
        self._counters = counters
        self._capacity = capacity
        self._tokens: OrderedDict[TokenKey, IssuedCredential] = OrderedDict()

    def get(self, key: TokenKey) -> IssuedCredential | None:
        """A token with enough life left."""
        token = self._tokens.get(key)
        if token is None or not _worth_reusing(token, self._now()):
            self._counters.token_misses += 1
            return None
        self._tokens.move_to_end(key)
        self._counters.token_hits += 1
        return token

    def put(self, key: TokenKey, token: IssuedCredential) -> None:
        """Keep a token; the one used longest ago makes room."""
        self._tokens[key] = token
        self._tokens.move_to_end(key)
        if len(self._tokens) > self._capacity:
            self._tokens.popitem(last=False)

    def forget(self, key: TokenKey) -> None:
        """Drop one token."""
        self._tokens.pop(key, None)

    def forget_session(self, access_key_id: str) -> None:
        """Drop everything a dead session signed."""
        for key in [key for key in self._tokens if key.access_key_id == access_key_id]:
            del self._tokens[key]

    def __len__(self) -> int:
        return len(self._tokens)


def _worth_reusing(token: IssuedCredential, now: datetime) -> bool:
    life = token.expires_at - token.issued_at
    return token.expires_at - now > life * REISSUE_BELOW
