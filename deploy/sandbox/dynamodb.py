"""DynamoDB: ministack's, which checks signatures and policies itself, behind TLS under AWS's names."""

import boto3
from botocore.config import Config

from deploy.sandbox import front, topology
from deploy.sandbox.ground import Ground
from deploy.sandbox.world import Database


def launch(ground: Ground, specs: tuple[topology.DatabaseSpec, ...]) -> list[Database]:
    """One port for the endpoints of all accounts: whose tables it shows depends on who signs."""
    names = dict.fromkeys(name for spec in specs for name in (spec.host, *spec.other_hosts))
    door = front.Door(name="dynamodb", dns_names=tuple(names), behind=f"unix@{ground.http_socket}")
    (port,) = front.start("dynamodb", [door], ground)
    return [Database.of(spec, local_port=port, superuser_dsn="") for spec in specs]


def seed(aws_endpoint: str) -> None:
    """The table ``orders`` in every account that owns tables, as the root of that account."""
    for spec in (topology.DYNAMODB, topology.ANALYTICS_DYNAMODB):
        client = boto3.session.Session().client(
            "dynamodb",
            region_name=topology.REGION,
            endpoint_url=aws_endpoint,
            aws_access_key_id=spec.account_id,
            aws_secret_access_key="root",  # noqa: S106 - root calls are not checked
            config=Config(retries={"max_attempts": 0}, proxies={}),
        )
        client.create_table(
            TableName="orders",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for number, state in enumerate(("pending", "paid", "shipped"), 1):
            owner = {"S": spec.account_id}
            client.put_item(TableName="orders", Item={"id": {"S": str(number)}, "state": {"S": state}, "of": owner})
