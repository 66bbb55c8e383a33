"""Calls the broker: the library that proxies and other services use.

    async with Client("broker.example:7443", Identity(cert_file=..., key_file=..., ca_file=...)) as broker:
        grant = await broker.issue_credential("orders", "app")
        async for event in broker.watch_databases():
            ...

    client.py    Client: one method per RPC, typed results
    channel.py   one channel ("lane"): options, retry policy, credentials
    events.py    what a watch yields     view.py   one continuous view over several streams
    errors.py    RpcFailed, decoded from google.rpc.ErrorInfo
    registrations.py   what RegistryService answers
    convert.py   messages -> tollbridge.model; generated messages stop here

Every method raises RpcFailed and nothing else that is not the caller's own cancellation.
"""

from tollbridge.client.client import Client
from tollbridge.client.errors import RpcFailed
from tollbridge.client.events import Delete, Event, PolicyChanged, Synced, Upsert
from tollbridge.client.registrations import DocumentProblem, Origin, Registration
from tollbridge.process.tls import TlsFiles as Identity
from tollbridge.process.tls import TlsFilesError

__all__ = [
    "Client",
    "Identity",
    "TlsFilesError",
    "RpcFailed",
    "Event",
    "Upsert",
    "Delete",
    "Synced",
    "PolicyChanged",
    "Registration",
    "DocumentProblem",
    "Origin",
]
