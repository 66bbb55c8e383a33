// What npm's cassandra-driver does first and most: said and checked here, one JSON line as the result.
// Usage: node cql_clients.mjs PORT [CA_FILE]
import { readFileSync } from "node:fs";
import { deepStrictEqual as same } from "node:assert";
import dialled from "./dialled.mjs";
import cassandra from "cassandra-driver";

const [port, caFile] = process.argv.slice(2);
const { auth, concurrent, policies, types } = cassandra;

function make(user) {
  return new cassandra.Client({
    contactPoints: [`127.0.0.1:${port}`],
    localDataCenter: "datacenter1",
    authProvider: new auth.PlainTextAuthProvider(user, "ignored"),
    sslOptions: caFile ? { ca: [readFileSync(caFile)], servername: "localhost" } : undefined,
    policies: { retry: new policies.retry.RetryPolicy() },
  });
}

const client = make("role/DatabaseUserRole");
await client.connect();
const version = client.controlConnection.protocolVersion;
const keyspace = `node_${process.pid}`;
await client.execute(
  `CREATE KEYSPACE ${keyspace} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}`);
const table = `${keyspace}.notes`;
await client.execute(`CREATE TABLE ${table} (id int PRIMARY KEY, note text)`);
const insert = `INSERT INTO ${table} (id, note) VALUES (?, ?)`;
await concurrent.executeConcurrent(
  client, insert, Array.from({ length: 2000 }, (_, id) => [id, `note ${id}`]), { concurrencyLevel: 1000 });
const one = await client.execute(`SELECT note FROM ${table} WHERE id = ?`, [1234], { prepare: true });
same(one.first().note, "note 1234");
let pages = 0, rows = 0;
for (let state; ; pages++) {
  const page = await client.execute(`SELECT id FROM ${table}`, [], { prepare: true, fetchSize: 300, pageState: state });
  rows += page.rowLength;
  if (!(state = page.pageState)) break;
}
await client.batch([1, 2, 3].map((id) => ({ query: insert, params: [id, "batch"] })), { prepare: true });
const applied = await client.execute(`INSERT INTO ${table} (id, note) VALUES (?, ?) IF NOT EXISTS`, [1, "lost"],
  { prepare: true });
same(applied.wasApplied(), false);
same(applied.first().note, "batch");
const wrong = await client.execute("SELECT * FROM shop.nowhere").catch((error) => error.code);
same(wrong, types.responseErrorCodes.invalid);
await client.execute(`DROP KEYSPACE ${keyspace}`);
const hosts = client.hosts.keys();
await client.shutdown();

const nobody = make("role/NobodysRole");
const denied = await nobody.connect().then(() => "let in", (error) => Object.values(error.innerErrors)[0].message);
await nobody.shutdown();

console.log(JSON.stringify({ version, rows, pages: pages + 1, hosts, denied, dialled: [...dialled] }));
