import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tollbridge.v1 import database_pb2 as _database_pb2
from tollbridge.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IamAuthResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IAM_AUTH_RESULT_UNSPECIFIED: _ClassVar[IamAuthResult]
    IAM_AUTH_RESULT_CHANGED: _ClassVar[IamAuthResult]
    IAM_AUTH_RESULT_ALREADY_ON: _ClassVar[IamAuthResult]
    IAM_AUTH_RESULT_FAILED: _ClassVar[IamAuthResult]
IAM_AUTH_RESULT_UNSPECIFIED: IamAuthResult
IAM_AUTH_RESULT_CHANGED: IamAuthResult
IAM_AUTH_RESULT_ALREADY_ON: IamAuthResult
IAM_AUTH_RESULT_FAILED: IamAuthResult

class DiscoveryServiceStatusRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DiscoveryServiceStatusResponse(_message.Message):
    __slots__ = ("cells", "next_page_token", "enabled", "interval_seconds", "sweeper", "aws_calls")
    CELLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SWEEPER_FIELD_NUMBER: _ClassVar[int]
    AWS_CALLS_FIELD_NUMBER: _ClassVar[int]
    cells: _containers.RepeatedCompositeFieldContainer[DiscoveryCell]
    next_page_token: str
    enabled: bool
    interval_seconds: int
    sweeper: bool
    aws_calls: int
    def __init__(self, cells: _Optional[_Iterable[_Union[DiscoveryCell, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., enabled: _Optional[bool] = ..., interval_seconds: _Optional[int] = ..., sweeper: _Optional[bool] = ..., aws_calls: _Optional[int] = ...) -> None: ...

class DiscoveryCell(_message.Message):
    __slots__ = ("account_id", "region", "product", "role_arn", "databases", "last_attempt_at", "last_success_at", "failure", "failure_message", "failures", "seconds", "skipped", "skipped_total", "notes", "stale")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    ROLE_ARN_FIELD_NUMBER: _ClassVar[int]
    DATABASES_FIELD_NUMBER: _ClassVar[int]
    LAST_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SUCCESS_AT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    region: str
    product: _database_pb2.Product
    role_arn: str
    databases: int
    last_attempt_at: _timestamp_pb2.Timestamp
    last_success_at: _timestamp_pb2.Timestamp
    failure: _reason_pb2.Reason
    failure_message: str
    failures: int
    seconds: float
    skipped: _containers.RepeatedCompositeFieldContainer[DiscoverySkipped]
    skipped_total: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    stale: bool
    def __init__(self, account_id: _Optional[str] = ..., region: _Optional[str] = ..., product: _Optional[_Union[_database_pb2.Product, str]] = ..., role_arn: _Optional[str] = ..., databases: _Optional[int] = ..., last_attempt_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_success_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failure: _Optional[_Union[_reason_pb2.Reason, str]] = ..., failure_message: _Optional[str] = ..., failures: _Optional[int] = ..., seconds: _Optional[float] = ..., skipped: _Optional[_Iterable[_Union[DiscoverySkipped, _Mapping]]] = ..., skipped_total: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ..., stale: _Optional[bool] = ...) -> None: ...

class DiscoverySkipped(_message.Message):
    __slots__ = ("name", "arn", "cause", "why")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARN_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    name: str
    arn: str
    cause: str
    why: str
    def __init__(self, name: _Optional[str] = ..., arn: _Optional[str] = ..., cause: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class DiscoveryServicePlanRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DiscoveryServicePlanResponse(_message.Message):
    __slots__ = ("changes", "next_page_token", "apply_allowed")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    APPLY_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[IamAuthChange]
    next_page_token: str
    apply_allowed: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[IamAuthChange, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., apply_allowed: _Optional[bool] = ...) -> None: ...

class IamAuthChange(_message.Message):
    __slots__ = ("account_id", "region", "arn", "identifier", "call", "role_arn", "parameters", "seen_at")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ARN_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    ROLE_ARN_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    region: str
    arn: str
    identifier: str
    call: str
    role_arn: str
    parameters: _containers.ScalarMap[str, str]
    seen_at: _timestamp_pb2.Timestamp
    def __init__(self, account_id: _Optional[str] = ..., region: _Optional[str] = ..., arn: _Optional[str] = ..., identifier: _Optional[str] = ..., call: _Optional[str] = ..., role_arn: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., seen_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DiscoveryServiceApplyRequest(_message.Message):
    __slots__ = ("arns",)
    ARNS_FIELD_NUMBER: _ClassVar[int]
    arns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, arns: _Optional[_Iterable[str]] = ...) -> None: ...

class DiscoveryServiceApplyResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[IamAuthOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[IamAuthOutcome, _Mapping]]] = ...) -> None: ...

class IamAuthOutcome(_message.Message):
    __slots__ = ("arn", "result", "message", "reason")
    ARN_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    arn: str
    result: IamAuthResult
    message: str
    reason: _reason_pb2.Reason
    def __init__(self, arn: _Optional[str] = ..., result: _Optional[_Union[IamAuthResult, str]] = ..., message: _Optional[str] = ..., reason: _Optional[_Union[_reason_pb2.Reason, str]] = ...) -> None: ...

class DiscoveryServiceForgetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DiscoveryServiceForgetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
