"""Who may call what: one row per RPC the broker serves. A method without a row is refused.

The RPC comments in proto/tollbridge/v1 say the same; a test walks both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from broker.access.operators import Power


class Who(Enum):
    """Who may call an RPC. The value is how its comment says so."""

    ANYBODY = "anybody who can connect"
    ANY_CALLER = "any authenticated caller"
    VIEWER = "an operator who may view"
    REGISTRAR = "an operator who may register"
    APPLIER = "an operator who may apply"


POWERS: Final = MappingProxyType({Who.VIEWER: Power.VIEW, Who.REGISTRAR: Power.REGISTER, Who.APPLIER: Power.APPLY})
"""What an `operators:` row must say for a caller to be one of them. On which databases it may act, servicers ask."""


class Load(Enum):
    """Which limit an RPC counts against."""

    NONE = "none"
    CALL = "calls in flight"
    WATCH = "open watches"


@dataclass(frozen=True, slots=True)
class AccessRow:
    """What the interceptor needs to know about an RPC."""

    who: Who
    load: Load


ACCESS: Final[Mapping[str, AccessRow]] = MappingProxyType(
    {
        "/tollbridge.v1.CredentialService/IssueCredential": AccessRow(Who.ANY_CALLER, Load.CALL),
        "/tollbridge.v1.CredentialService/SignChallenge": AccessRow(Who.ANY_CALLER, Load.CALL),
        "/tollbridge.v1.CatalogService/ListDatabases": AccessRow(Who.ANY_CALLER, Load.CALL),
        "/tollbridge.v1.CatalogService/WatchDatabases": AccessRow(Who.ANY_CALLER, Load.WATCH),
        "/tollbridge.v1.AccessService/Explain": AccessRow(Who.VIEWER, Load.CALL),
        "/tollbridge.v1.DiagnosticsService/Diagnose": AccessRow(Who.VIEWER, Load.WATCH),
        "/tollbridge.v1.RegistryService/CreateDatabase": AccessRow(Who.REGISTRAR, Load.CALL),
        "/tollbridge.v1.RegistryService/GetDatabase": AccessRow(Who.VIEWER, Load.CALL),
        "/tollbridge.v1.RegistryService/ListDatabases": AccessRow(Who.VIEWER, Load.CALL),
        "/tollbridge.v1.RegistryService/UpdateDatabase": AccessRow(Who.REGISTRAR, Load.CALL),
        "/tollbridge.v1.RegistryService/DeleteDatabase": AccessRow(Who.REGISTRAR, Load.CALL),
        "/tollbridge.v1.DiscoveryService/Status": AccessRow(Who.VIEWER, Load.CALL),
        "/tollbridge.v1.DiscoveryService/Plan": AccessRow(Who.VIEWER, Load.CALL),
        "/tollbridge.v1.DiscoveryService/Apply": AccessRow(Who.APPLIER, Load.CALL),
        "/tollbridge.v1.DiscoveryService/Forget": AccessRow(Who.REGISTRAR, Load.CALL),
        # Health tells nothing but up or down. On mTLS listeners a trusted certificate is needed all the same.
        "/grpc.health.v1.Health/Check": AccessRow(Who.ANYBODY, Load.NONE),
        "/grpc.health.v1.Health/List": AccessRow(Who.ANYBODY, Load.NONE),
        "/grpc.health.v1.Health/Watch": AccessRow(Who.ANYBODY, Load.WATCH),
    }
)
