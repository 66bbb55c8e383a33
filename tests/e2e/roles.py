"""Sessions of roles in other accounts, and what botocore makes of them: the sandbox as AWS's own clients see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import boto3
import botocore.model
import pytest
from botocore.exceptions import ClientError
from botocore.signers import RequestSigner

from deploy.sandbox import topology
from deploy.sandbox.world import Database, World


@dataclass(frozen=True, slots=True)
class Role:
    """A session of a role in another account, and what botocore makes of it."""

    world: World
    session: Any
    """boto3's."""

    @classmethod
    def assume(cls, world: World, role_arn: str, via: Role | None = None) -> Role:
        """As the broker's user, or from another role."""
        user = boto3.session.Session(world.broker_access_key_id, world.broker_secret_access_key)
        caller: Any = via.session if via else user
        sts = caller.client("sts", endpoint_url=world.aws_endpoint, region_name=world.region)
        outside = {} if via else {"ExternalId": topology.EXAMPLE_EXTERNAL_ID}
        issued = sts.assume_role(RoleArn=role_arn, RoleSessionName="sandbox-test", **outside)["Credentials"]
        names = (issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
        return cls(world, boto3.session.Session(*names, region_name=world.region))

    def rds_token(self, database: Database, user: str) -> str:
        """RDS's."""
        token: str = self.session.client("rds").generate_db_auth_token(database.host, database.port, user)
        return token

    def cache_token(
        self,
        name: str,
        user: str,
        service: str = "elasticache",
        more: Mapping[str, str] = MappingProxyType({}),
        *,
        seconds: int = 900,
    ) -> str:
        """ElastiCache's and MemoryDB's, which botocore has no function for."""
        signer = RequestSigner(
            botocore.model.ServiceId(service),
            self.world.region,
            service,
            "v4",
            self.session.get_credentials(),
            self.session.events,
        )
        url = f"https://{name}/?{urlencode({'Action': 'connect', 'User': user, **more})}"
        request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
        presigned: str = signer.generate_presigned_url(request, operation_name="", expires_in=seconds)
        return presigned.removeprefix("https://")

    def client(self, service: str) -> Any:
        """Of one of the services that the sandbox has stubs for."""
        return self.session.client(service, endpoint_url=self.world.aws_endpoint)


def refused(call: Callable[[], object]) -> str:
    """The code of a call's error."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])
