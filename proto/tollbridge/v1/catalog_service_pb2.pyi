from tollbridge.v1 import database_pb2 as _database_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListDatabasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatabasesResponse(_message.Message):
    __slots__ = ("databases", "next_page_token")
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    databases: _containers.RepeatedCompositeFieldContainer[_database_pb2.Database]
    next_page_token: str
    def __init__(self, databases: _Optional[_Iterable[_Union[_database_pb2.Database, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchDatabasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchDatabasesResponse(_message.Message):
    __slots__ = ("upsert", "delete", "synced", "policy_changed", "policy_version")
    UPSERT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    POLICY_CHANGED_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    upsert: _database_pb2.Database
    delete: str
    synced: Synced
    policy_changed: PolicyChanged
    policy_version: str
    def __init__(self, upsert: _Optional[_Union[_database_pb2.Database, _Mapping]] = ..., delete: _Optional[str] = ..., synced: _Optional[_Union[Synced, _Mapping]] = ..., policy_changed: _Optional[_Union[PolicyChanged, _Mapping]] = ..., policy_version: _Optional[str] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PolicyChanged(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
