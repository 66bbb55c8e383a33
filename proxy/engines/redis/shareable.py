"""Which commands may share a connection with other clients', and how to count them. PURE.

A command may when it has exactly one answer whatever its arguments, leaves nothing behind on the connection, never
waits for anything and never brings messages later. What is on no list here may not: a module's command, one that a
later server adds, one whose effect is in doubt. Known to hold for Redis 6 to 8 and Valkey 7 to 9.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from proxy.engines.redis.patterns import SHORT, anything, one_of, sized
from proxy.engines.redis.scanner import FEW

_SHAREABLE: Final = {
    "keys": """
        copy del delex delifeq dump exists expire expireat expiretime move object persist pexpire pexpireat pexpiretime
        pttl randomkey rename renamenx restore scan sort sort_ro touch ttl type unlink""",
    "strings": """
        append decr decrby digest get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset msetex msetnx
        psetex set setex setnx setrange strlen substr""",
    "bits": "bitcount bitfield bitfield_ro bitop bitpos getbit setbit",
    "hashes": """
        hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen hmget
        hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl hvals""",
    "lists that nobody waits for": """
        lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx""",
    "sets": """
        sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop srandmember
        srem sscan sunion sunionstore""",
    "sorted sets that nobody waits for": """
        zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin
        zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank
        zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore""",
    "streams, but for reading, which can wait": """
        xack xackdel xadd xautoclaim xclaim xdel xdelex xgroup xinfo xlen xpending xrange xrevrange xsetid xtrim""",
    "places": """
        geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch
        geosearchstore""",
    "estimates": "pfadd pfcount pfmerge",
    "scripts: what one does to its connection ends with it, and in one nothing waits": """
        eval eval_ro evalsha evalsha_ro fcall fcall_ro""",
    "messages, sent only": "publish spublish",
    "the server": "dbsize echo info ping time",
}
_ANSWERED: Final = {
    "the login, which is ours": "auth hello quit",
    "what clients say of themselves when they connect": "client",
    "the number of a database: a shared connection is in that of 0": "select",
    "never upstream": "monitor psync replconf sync",
    "about the writes of its own connection": "wait waitaof",
}
_PINNED: Final = {
    "waits": "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin migrate xread xreadgroup",
    "has several answers, or brings messages later": """
        psubscribe punsubscribe ssubscribe subscribe sunsubscribe unsubscribe""",
    "is about the next commands": """
        asking discard exec multi readonly readwrite reset unwatch watch""",
    "is the operators', or seldom": """
        acl bgrewriteaof bgsave cluster clusterscan command commandlog config debug failover flushall flushdb function
        keys lastsave latency lolwut memory module pfdebug pfselftest pubsub replicaof restore-asking role save script
        shutdown slaveof slowlog swapdb""",
}


def _names(table: dict[str, str]) -> frozenset[bytes]:
    return frozenset(name.encode() for names in table.values() for name in names.split())


SHAREABLE: Final = _names(_SHAREABLE)
"""May share. Lower case, as all here."""
ANSWERED: Final = _names(_ANSWERED)
"""Looked at one by one: most are answered here."""
KNOWN: Final = SHAREABLE | ANSWERED | _names(_PINNED)
"""Names that may be said in a log. Any other is the client's own word."""

SHORT_NAME: Final = max(map(len, SHAREABLE))


@cache
def short_command() -> re.Pattern[bytes]:
    """One whole command that may share, of few and short arguments. It compiles in 30 ms, when first asked for.

    The number of arguments opens a group, and the group says how many must follow: the names, which are most of it,
    stand in the pattern once.
    """
    few = range(2, FEW + 1)
    counts = "|".join(["1", *(f"{count}()" for count in few)])
    name = r"\$" + sized(SHORT_NAME, lambda length: one_of(word.decode() for word in SHAREABLE if len(word) == length))
    argument = r"\$" + sized(SHORT, anything)
    arguments = ""
    for count in reversed(few):
        times = argument * (count - 1) if count <= WRITTEN_OUT else f"(?:{argument}){{{count - 1}}}"
        arguments = f"(?({count - 1}){times}|{arguments})"
    return re.compile(rf"\*(?:{counts})\r\n{name}{arguments}".encode(), re.DOTALL)


WRITTEN_OUT: Final = 3
"""Commands of so many arguments, the name counted, are matched without a loop."""


@cache
def whole_commands() -> Callable[[bytes], int]:
    """How many commands a chunk is that is nothing but short ones that may share; 0 for any other.

    Matches cannot overlap and nothing is left between them, so they follow each other from the first byte, and each
    ends where its lengths say. 0.2 us a command in a pipeline, 0.4 us alone.
    """
    subn = short_command().subn

    def whole(data: bytes) -> int:
        rest, count = subn(b"", data)
        return 0 if rest else count

    return whole
