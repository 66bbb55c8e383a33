import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tollbridge.v1 import database_pb2 as _database_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_STATIC: _ClassVar[Origin]
    ORIGIN_DYNAMIC: _ClassVar[Origin]
    ORIGIN_DISCOVERED: _ClassVar[Origin]
ORIGIN_UNSPECIFIED: Origin
ORIGIN_STATIC: Origin
ORIGIN_DYNAMIC: Origin
ORIGIN_DISCOVERED: Origin

class Registration(_message.Message):
    __slots__ = ("name", "served_as", "origin", "revision", "document", "database", "assume_role_arn", "account_link", "problems", "written_at", "written_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    ASSUME_ROLE_ARN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_LINK_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_AT_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    served_as: str
    origin: Origin
    revision: str
    document: str
    database: _database_pb2.Database
    assume_role_arn: str
    account_link: str
    problems: _containers.RepeatedCompositeFieldContainer[DocumentProblem]
    written_at: _timestamp_pb2.Timestamp
    written_by: str
    def __init__(self, name: _Optional[str] = ..., served_as: _Optional[str] = ..., origin: _Optional[_Union[Origin, str]] = ..., revision: _Optional[str] = ..., document: _Optional[str] = ..., database: _Optional[_Union[_database_pb2.Database, _Mapping]] = ..., assume_role_arn: _Optional[str] = ..., account_link: _Optional[str] = ..., problems: _Optional[_Iterable[_Union[DocumentProblem, _Mapping]]] = ..., written_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., written_by: _Optional[str] = ...) -> None: ...

class DocumentProblem(_message.Message):
    __slots__ = ("path", "line", "message", "hint", "warning")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    path: str
    line: int
    message: str
    hint: str
    warning: bool
    def __init__(self, path: _Optional[str] = ..., line: _Optional[int] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., warning: _Optional[bool] = ...) -> None: ...

class InvalidDocument(_message.Message):
    __slots__ = ("problems", "omitted")
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[DocumentProblem]
    omitted: int
    def __init__(self, problems: _Optional[_Iterable[_Union[DocumentProblem, _Mapping]]] = ..., omitted: _Optional[int] = ...) -> None: ...

class CreateDatabaseRequest(_message.Message):
    __slots__ = ("document", "validate_only")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    document: str
    validate_only: bool
    def __init__(self, document: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class CreateDatabaseResponse(_message.Message):
    __slots__ = ("registration",)
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    registration: Registration
    def __init__(self, registration: _Optional[_Union[Registration, _Mapping]] = ...) -> None: ...

class GetDatabaseRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetDatabaseResponse(_message.Message):
    __slots__ = ("registration",)
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    registration: Registration
    def __init__(self, registration: _Optional[_Union[Registration, _Mapping]] = ...) -> None: ...

class RegistryServiceListDatabasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "origins")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    origins: _containers.RepeatedScalarFieldContainer[Origin]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., origins: _Optional[_Iterable[_Union[Origin, str]]] = ...) -> None: ...

class RegistryServiceListDatabasesResponse(_message.Message):
    __slots__ = ("registrations", "next_page_token")
    REGISTRATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    registrations: _containers.RepeatedCompositeFieldContainer[Registration]
    next_page_token: str
    def __init__(self, registrations: _Optional[_Iterable[_Union[Registration, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateDatabaseRequest(_message.Message):
    __slots__ = ("document", "revision", "allow_missing", "validate_only")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ALLOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    document: str
    revision: str
    allow_missing: bool
    validate_only: bool
    def __init__(self, document: _Optional[str] = ..., revision: _Optional[str] = ..., allow_missing: _Optional[bool] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateDatabaseResponse(_message.Message):
    __slots__ = ("registration",)
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    registration: Registration
    def __init__(self, registration: _Optional[_Union[Registration, _Mapping]] = ...) -> None: ...

class DeleteDatabaseRequest(_message.Message):
    __slots__ = ("name", "revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: str
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class DeleteDatabaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
