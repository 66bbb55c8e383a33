import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from tollbridge.v1 import reason_pb2 as _reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiagnoseRequest(_message.Message):
    __slots__ = ("database", "db_user", "db_name", "workload")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    DB_USER_FIELD_NUMBER: _ClassVar[int]
    DB_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    database: str
    db_user: str
    db_name: str
    workload: str
    def __init__(self, database: _Optional[str] = ..., db_user: _Optional[str] = ..., db_name: _Optional[str] = ..., workload: _Optional[str] = ...) -> None: ...

class DiagnoseResponse(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: DiagnosisStep
    def __init__(self, step: _Optional[_Union[DiagnosisStep, _Mapping]] = ...) -> None: ...

class DiagnosisStep(_message.Message):
    __slots__ = ("step", "outcome", "detail", "reason", "causes", "statements", "took", "db_user", "db_name")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[DiagnosisStep.Outcome]
        OUTCOME_BEGUN: _ClassVar[DiagnosisStep.Outcome]
        OUTCOME_OK: _ClassVar[DiagnosisStep.Outcome]
        OUTCOME_FAILED: _ClassVar[DiagnosisStep.Outcome]
        OUTCOME_WARNING: _ClassVar[DiagnosisStep.Outcome]
    OUTCOME_UNSPECIFIED: DiagnosisStep.Outcome
    OUTCOME_BEGUN: DiagnosisStep.Outcome
    OUTCOME_OK: DiagnosisStep.Outcome
    OUTCOME_FAILED: DiagnosisStep.Outcome
    OUTCOME_WARNING: DiagnosisStep.Outcome
    STEP_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    DB_USER_FIELD_NUMBER: _ClassVar[int]
    DB_NAME_FIELD_NUMBER: _ClassVar[int]
    step: str
    outcome: DiagnosisStep.Outcome
    detail: str
    reason: _reason_pb2.Reason
    causes: _containers.RepeatedScalarFieldContainer[str]
    statements: _containers.RepeatedCompositeFieldContainer[PolicyStatement]
    took: _duration_pb2.Duration
    db_user: str
    db_name: str
    def __init__(self, step: _Optional[str] = ..., outcome: _Optional[_Union[DiagnosisStep.Outcome, str]] = ..., detail: _Optional[str] = ..., reason: _Optional[_Union[_reason_pb2.Reason, str]] = ..., causes: _Optional[_Iterable[str]] = ..., statements: _Optional[_Iterable[_Union[PolicyStatement, _Mapping]]] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., db_user: _Optional[str] = ..., db_name: _Optional[str] = ...) -> None: ...

class PolicyStatement(_message.Message):
    __slots__ = ("attach_to", "trust", "statement")
    ATTACH_TO_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    attach_to: str
    trust: bool
    statement: str
    def __init__(self, attach_to: _Optional[str] = ..., trust: _Optional[bool] = ..., statement: _Optional[str] = ...) -> None: ...
