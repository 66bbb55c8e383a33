// What npm's AWS SDK v3 and OpenSearch client do first and most: said and checked here, one JSON line as the result.
// Usage: node http_clients.mjs DYNAMODB_PORT OPENSEARCH_PORT USER
import { deepStrictEqual as same, rejects } from "node:assert";
import {
  BatchWriteItemCommand,
  CreateTableCommand,
  DeleteTableCommand,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  ScanCommand,
  TransactWriteItemsCommand,
  paginateScan,
} from "@aws-sdk/client-dynamodb";
import { Client } from "@opensearch-project/opensearch";
import { AwsSigv4Signer } from "@opensearch-project/opensearch/aws-v3";

const [dynamodbPort, searchPort, user] = process.argv.slice(2);
const region = "us-west-1";
const dummy = (accessKeyId) => ({ accessKeyId, secretAccessKey: "anything" });
const done = [];

const dynamodb = (who) =>
  new DynamoDBClient({
    region,
    endpoint: `http://127.0.0.1:${dynamodbPort}`,
    credentials: dummy(who),
    maxAttempts: 1,
  });

async function items() {
  const client = dynamodb(user);
  const TableName = `node-${process.pid}`;
  await client.send(
    new CreateTableCommand({
      TableName,
      KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
      AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
      BillingMode: "PAY_PER_REQUEST",
    }),
  );
  const Item = { id: { S: "1" }, note: { S: "näme" }, blob: { B: new Uint8Array([0, 1, 255]) } };
  await client.send(new PutItemCommand({ TableName, Item }));
  same((await client.send(new GetItemCommand({ TableName, Key: { id: { S: "1" } } }))).Item, Item);
  const puts = Array.from({ length: 25 }, (_, i) => ({
    PutRequest: { Item: { id: { S: String(i) }, fill: { S: "x".repeat(100_000) } } },
  }));
  await client.send(new BatchWriteItemCommand({ RequestItems: { [TableName]: puts } }));
  let count = 0;
  for await (const page of paginateScan({ client, pageSize: 10 }, { TableName })) count += page.Count;
  same(count, 25);
  const taken = { Put: { TableName, Item, ConditionExpression: "attribute_not_exists(id)" } };
  await rejects(client.send(new TransactWriteItemsCommand({ TransactItems: [taken] })), {
    name: "TransactionCanceledException",
  });
  // Many at once, over the few sockets that the SDK keeps.
  const reads = Array.from({ length: 200 }, () => client.send(new GetItemCommand({ TableName, Key: { id: { S: "1" } } })));
  same((await Promise.all(reads)).every(({ $metadata }) => $metadata.attempts === 1), true);
  await client.send(new DeleteTableCommand({ TableName }));
  client.destroy();
  done.push("dynamodb");
}

async function refused() {
  const client = dynamodb("role/NobodysRole");
  const said = await client.send(new ScanCommand({ TableName: "orders" })).catch((error) => error);
  same([said.name, said.$metadata.httpStatusCode], ["AccessDeniedException", 403]);
  same(said.message.includes("role/NobodysRole"), true);
  client.destroy();
  done.push("refused");
}

async function search() {
  const client = new Client({
    ...AwsSigv4Signer({ region, service: "es", getCredentials: async () => dummy(user) }),
    node: `http://127.0.0.1:${searchPort}`,
    maxRetries: 0,
  });
  const index = `node-${process.pid}`;
  await client.index({ index, id: "a b/c", body: { title: "Metropolis" }, refresh: true });
  same((await client.get({ index, id: "a b/c" })).body._source, { title: "Metropolis" });
  const datasource = Array.from({ length: 5000 }, (_, n) => ({ n, fill: "x".repeat(1000) }));
  const result = await client.helpers.bulk({ datasource, onDocument: () => ({ index: { _index: index } }), refresh: true });
  same([result.successful, result.failed], [5000, 0]);
  const found = await client.search({ index: `${index}*,-none*`, body: { query: { match: { title: "metropolis" } } } });
  same(found.body.hits.total.value, 1);
  let scrolled = 0;
  const all = { query: { match_all: {} } };
  for await (const page of client.helpers.scrollSearch({ index, body: all, size: 1000 })) {
    scrolled += page.body.hits.hits.length;
  }
  same(scrolled, 5001);
  const missing = await client.get({ index, id: "none" }).catch((error) => error.statusCode);
  same(missing, 404);
  await client.indices.delete({ index });
  await client.close();
  done.push("opensearch");
}

await items();
await refused();
await search();
console.log(JSON.stringify(done));
