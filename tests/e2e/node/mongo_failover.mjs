// npm's mongodb while another node becomes primary: it writes, says "ready", and once a line comes on its standard input
// writes again, as often as it takes. One JSON line as the result.
// Usage: node mongo_failover.mjs PORT OPTIONS [CA_FILE]; OPTIONS as they stand in a URI
import { deepStrictEqual as same } from "node:assert";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import dialled from "./dialled.mjs";
import { MongoClient } from "mongodb";

const [port, options, caFile] = process.argv.slice(2);
const host = caFile ? "localhost" : "127.0.0.1";
const client = new MongoClient(`mongodb://${host}:${port}/?${options}`, {
  ...(caFile ? { tls: true, tlsCAFile: caFile, family: 4 } : {}),
  heartbeatFrequencyMS: 500,
  serverSelectionTimeoutMS: 20000,
});
await client.connect();
const rows = client.db("app").collection(`failover${process.pid}`);
await rows.insertOne({ _id: 0 });
console.log("ready");
await once(process.stdin, "data");
let tries = 0;
for (let written = false; !written && tries < 200; tries += 1) {
  written = await rows.updateOne({ _id: 0 }, { $set: { after: true } }).then(
    () => true,
    () => pause(100, false),
  );
}
same(await rows.findOne(), { _id: 0, after: true });
await rows.drop();
await client.close();
process.stdin.destroy();
console.log(JSON.stringify({ tries, dialled: [...dialled] }));
