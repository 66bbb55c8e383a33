from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    PROTOCOL_POSTGRES: _ClassVar[Protocol]
    PROTOCOL_MYSQL: _ClassVar[Protocol]
    PROTOCOL_REDIS: _ClassVar[Protocol]
    PROTOCOL_DYNAMODB: _ClassVar[Protocol]
    PROTOCOL_OPENSEARCH: _ClassVar[Protocol]
    PROTOCOL_CASSANDRA: _ClassVar[Protocol]
    PROTOCOL_MONGODB: _ClassVar[Protocol]

class Product(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRODUCT_UNSPECIFIED: _ClassVar[Product]
    PRODUCT_RDS: _ClassVar[Product]
    PRODUCT_RDSPROXY: _ClassVar[Product]
    PRODUCT_REDSHIFT: _ClassVar[Product]
    PRODUCT_REDSHIFT_SERVERLESS: _ClassVar[Product]
    PRODUCT_ELASTICACHE: _ClassVar[Product]
    PRODUCT_ELASTICACHE_SERVERLESS: _ClassVar[Product]
    PRODUCT_MEMORYDB: _ClassVar[Product]
    PRODUCT_DYNAMODB: _ClassVar[Product]
    PRODUCT_OPENSEARCH: _ClassVar[Product]
    PRODUCT_OPENSEARCH_SERVERLESS: _ClassVar[Product]
    PRODUCT_KEYSPACES: _ClassVar[Product]
    PRODUCT_DOCDB: _ClassVar[Product]
    PRODUCT_DSQL: _ClassVar[Product]

class TlsMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TLS_MODE_UNSPECIFIED: _ClassVar[TlsMode]
    TLS_MODE_VERIFY_FULL: _ClassVar[TlsMode]
    TLS_MODE_VERIFY_CA: _ClassVar[TlsMode]
    TLS_MODE_INSECURE: _ClassVar[TlsMode]

class TrustStore(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUST_STORE_UNSPECIFIED: _ClassVar[TrustStore]
    TRUST_STORE_SYSTEM: _ClassVar[TrustStore]
    TRUST_STORE_AWS_RDS: _ClassVar[TrustStore]
    TRUST_STORE_AWS_REDSHIFT: _ClassVar[TrustStore]
    TRUST_STORE_INLINE: _ClassVar[TrustStore]
PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_POSTGRES: Protocol
PROTOCOL_MYSQL: Protocol
PROTOCOL_REDIS: Protocol
PROTOCOL_DYNAMODB: Protocol
PROTOCOL_OPENSEARCH: Protocol
PROTOCOL_CASSANDRA: Protocol
PROTOCOL_MONGODB: Protocol
PRODUCT_UNSPECIFIED: Product
PRODUCT_RDS: Product
PRODUCT_RDSPROXY: Product
PRODUCT_REDSHIFT: Product
PRODUCT_REDSHIFT_SERVERLESS: Product
PRODUCT_ELASTICACHE: Product
PRODUCT_ELASTICACHE_SERVERLESS: Product
PRODUCT_MEMORYDB: Product
PRODUCT_DYNAMODB: Product
PRODUCT_OPENSEARCH: Product
PRODUCT_OPENSEARCH_SERVERLESS: Product
PRODUCT_KEYSPACES: Product
PRODUCT_DOCDB: Product
PRODUCT_DSQL: Product
TLS_MODE_UNSPECIFIED: TlsMode
TLS_MODE_VERIFY_FULL: TlsMode
TLS_MODE_VERIFY_CA: TlsMode
TLS_MODE_INSECURE: TlsMode
TRUST_STORE_UNSPECIFIED: TrustStore
TRUST_STORE_SYSTEM: TrustStore
TRUST_STORE_AWS_RDS: TrustStore
TRUST_STORE_AWS_REDSHIFT: TrustStore
TRUST_STORE_INLINE: TrustStore

class Endpoint(_message.Message):
    __slots__ = ("host", "port")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class TlsFacts(_message.Message):
    __slots__ = ("mode", "trust_store", "server_name", "ca_pem")
    MODE_FIELD_NUMBER: _ClassVar[int]
    TRUST_STORE_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    mode: TlsMode
    trust_store: TrustStore
    server_name: str
    ca_pem: str
    def __init__(self, mode: _Optional[_Union[TlsMode, str]] = ..., trust_store: _Optional[_Union[TrustStore, str]] = ..., server_name: _Optional[str] = ..., ca_pem: _Optional[str] = ...) -> None: ...

class Database(_message.Message):
    __slots__ = ("name", "description", "labels", "protocol", "product", "endpoint", "tls", "region", "account_id", "server_version")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    labels: _containers.ScalarMap[str, str]
    protocol: Protocol
    product: Product
    endpoint: Endpoint
    tls: TlsFacts
    region: str
    account_id: str
    server_version: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., product: _Optional[_Union[Product, str]] = ..., endpoint: _Optional[_Union[Endpoint, _Mapping]] = ..., tls: _Optional[_Union[TlsFacts, _Mapping]] = ..., region: _Optional[str] = ..., account_id: _Optional[str] = ..., server_version: _Optional[str] = ...) -> None: ...
