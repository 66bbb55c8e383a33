from tollbridge.v1 import database_pb2 as _database_pb2
from tollbridge.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("database", "db_user", "db_name", "workload", "caller")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    DB_USER_FIELD_NUMBER: _ClassVar[int]
    DB_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    database: str
    db_user: str
    db_name: str
    workload: str
    caller: str
    def __init__(self, database: _Optional[str] = ..., db_user: _Optional[str] = ..., db_name: _Optional[str] = ..., workload: _Optional[str] = ..., caller: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("allowed", "reason", "message", "rule", "steps", "rules", "role_chain", "credential", "policy_version", "database")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    ROLE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    reason: _reason_pb2.Reason
    message: str
    rule: str
    steps: _containers.RepeatedCompositeFieldContainer[ExplainStep]
    rules: _containers.RepeatedCompositeFieldContainer[RuleVerdict]
    role_chain: _containers.RepeatedCompositeFieldContainer[RoleHop]
    credential: str
    policy_version: str
    database: _database_pb2.Database
    def __init__(self, allowed: _Optional[bool] = ..., reason: _Optional[_Union[_reason_pb2.Reason, str]] = ..., message: _Optional[str] = ..., rule: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[ExplainStep, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[RuleVerdict, _Mapping]]] = ..., role_chain: _Optional[_Iterable[_Union[RoleHop, _Mapping]]] = ..., credential: _Optional[str] = ..., policy_version: _Optional[str] = ..., database: _Optional[_Union[_database_pb2.Database, _Mapping]] = ...) -> None: ...

class ExplainStep(_message.Message):
    __slots__ = ("step", "ok", "detail")
    STEP_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    step: str
    ok: bool
    detail: str
    def __init__(self, step: _Optional[str] = ..., ok: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class RuleVerdict(_message.Message):
    __slots__ = ("rule", "deny", "matches", "fails_at")
    RULE_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    FAILS_AT_FIELD_NUMBER: _ClassVar[int]
    rule: str
    deny: bool
    matches: bool
    fails_at: str
    def __init__(self, rule: _Optional[str] = ..., deny: _Optional[bool] = ..., matches: _Optional[bool] = ..., fails_at: _Optional[str] = ...) -> None: ...

class RoleHop(_message.Message):
    __slots__ = ("role_arn", "session_name", "duration_seconds", "external_id_set", "external_id_from", "tags", "narrowed")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ROLE_ARN_FIELD_NUMBER: _ClassVar[int]
    SESSION_NAME_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_SET_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FROM_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NARROWED_FIELD_NUMBER: _ClassVar[int]
    role_arn: str
    session_name: str
    duration_seconds: int
    external_id_set: bool
    external_id_from: str
    tags: _containers.ScalarMap[str, str]
    narrowed: bool
    def __init__(self, role_arn: _Optional[str] = ..., session_name: _Optional[str] = ..., duration_seconds: _Optional[int] = ..., external_id_set: _Optional[bool] = ..., external_id_from: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., narrowed: _Optional[bool] = ...) -> None: ...
