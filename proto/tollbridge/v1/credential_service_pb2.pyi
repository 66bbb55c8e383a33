import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tollbridge.v1 import database_pb2 as _database_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IssueCredentialRequest(_message.Message):
    __slots__ = ("database", "db_user", "db_name", "workload", "requested_ttl", "rejected")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    DB_USER_FIELD_NUMBER: _ClassVar[int]
    DB_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_TTL_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    database: str
    db_user: str
    db_name: str
    workload: str
    requested_ttl: _duration_pb2.Duration
    rejected: str
    def __init__(self, database: _Optional[str] = ..., db_user: _Optional[str] = ..., db_name: _Optional[str] = ..., workload: _Optional[str] = ..., requested_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rejected: _Optional[str] = ...) -> None: ...

class IssueCredentialResponse(_message.Message):
    __slots__ = ("decision_id", "credential_id", "endpoint", "tls", "token", "signing_key", "challenge", "issued_at", "expires_at", "recheck_after", "usable_until", "policy_version", "decided_at")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    RECHECK_AFTER_FIELD_NUMBER: _ClassVar[int]
    USABLE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    credential_id: str
    endpoint: _database_pb2.Endpoint
    tls: _database_pb2.TlsFacts
    token: Token
    signing_key: SigningKey
    challenge: Challenge
    issued_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    recheck_after: _timestamp_pb2.Timestamp
    usable_until: _timestamp_pb2.Timestamp
    policy_version: str
    decided_at: _timestamp_pb2.Timestamp
    def __init__(self, decision_id: _Optional[str] = ..., credential_id: _Optional[str] = ..., endpoint: _Optional[_Union[_database_pb2.Endpoint, _Mapping]] = ..., tls: _Optional[_Union[_database_pb2.TlsFacts, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., signing_key: _Optional[_Union[SigningKey, _Mapping]] = ..., challenge: _Optional[_Union[Challenge, _Mapping]] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recheck_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., usable_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy_version: _Optional[str] = ..., decided_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("user", "password")
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    user: str
    password: str
    def __init__(self, user: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class SigningKey(_message.Message):
    __slots__ = ("access_key_id", "session_token", "region", "service", "keys")
    ACCESS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    access_key_id: str
    session_token: str
    region: str
    service: str
    keys: _containers.RepeatedCompositeFieldContainer[DayKey]
    def __init__(self, access_key_id: _Optional[str] = ..., session_token: _Optional[str] = ..., region: _Optional[str] = ..., service: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[DayKey, _Mapping]]] = ...) -> None: ...

class DayKey(_message.Message):
    __slots__ = ("date", "key")
    DATE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    date: str
    key: bytes
    def __init__(self, date: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: str
    def __init__(self, host: _Optional[str] = ...) -> None: ...

class SignChallengeRequest(_message.Message):
    __slots__ = ("database", "db_user", "db_name", "workload", "mongodb_aws")
    DATABASE_FIELD_NUMBER: _ClassVar[int]
    DB_USER_FIELD_NUMBER: _ClassVar[int]
    DB_NAME_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    MONGODB_AWS_FIELD_NUMBER: _ClassVar[int]
    database: str
    db_user: str
    db_name: str
    workload: str
    mongodb_aws: MongodbAwsChallenge
    def __init__(self, database: _Optional[str] = ..., db_user: _Optional[str] = ..., db_name: _Optional[str] = ..., workload: _Optional[str] = ..., mongodb_aws: _Optional[_Union[MongodbAwsChallenge, _Mapping]] = ...) -> None: ...

class MongodbAwsChallenge(_message.Message):
    __slots__ = ("nonce", "host")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    host: str
    def __init__(self, nonce: _Optional[bytes] = ..., host: _Optional[str] = ...) -> None: ...

class SignChallengeResponse(_message.Message):
    __slots__ = ("decision_id", "mongodb_aws")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    MONGODB_AWS_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    mongodb_aws: MongodbAwsProof
    def __init__(self, decision_id: _Optional[str] = ..., mongodb_aws: _Optional[_Union[MongodbAwsProof, _Mapping]] = ...) -> None: ...

class MongodbAwsProof(_message.Message):
    __slots__ = ("authorization", "date", "session_token")
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    authorization: str
    date: str
    session_token: str
    def __init__(self, authorization: _Optional[str] = ..., date: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...
