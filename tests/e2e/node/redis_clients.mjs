// What ioredis and node-redis do first and most: said and checked here, one JSON line as the result.
// Usage: node redis_clients.mjs PORT [CA_FILE]
import { readFileSync } from "node:fs";
import { deepStrictEqual as same } from "node:assert";
import Redis from "ioredis";
import { createClient } from "redis";

const [port, caFile] = process.argv.slice(2);
const tls = caFile ? { ca: readFileSync(caFile), servername: "localhost" } : undefined;
const host = tls ? "localhost" : "127.0.0.1";
const done = [];

async function ioredis() {
  const client = new Redis({ host, port: Number(port), family: 4, tls, maxRetriesPerRequest: 0 });
  same(await client.set("io", "1"), "OK");
  same(await client.multi().incr("io").get("io").exec(), [[null, 2], [null, "2"]]);
  const pipeline = client.pipeline();
  for (let i = 0; i < 500; i++) pipeline.echo(String(i));
  same((await pipeline.exec()).map(([, value]) => value), Array.from({ length: 500 }, (_, i) => String(i)));
  const subscriber = client.duplicate();
  await subscriber.subscribe("io-news");
  const heard = new Promise((resolve) => subscriber.on("message", (channel, text) => resolve(text)));
  await client.publish("io-news", "hello");
  same(await heard, "hello");
  same(await client.blpop("io-none", 0.1), null);
  const refused = await client.call("MONITOR").catch((error) => error.message);
  same(refused.startsWith("ERR tollbridge refuses this"), true);
  await subscriber.quit();
  await client.quit();
  done.push("ioredis");
}

async function nodeRedis(RESP) {
  const socket = { host, port: Number(port), reconnectStrategy: false, ...(tls ? { tls: true, ...tls } : {}) };
  const client = createClient({ RESP, socket, username: "app", password: "anything" });
  client.on("error", () => {});
  await client.connect();
  same(await client.set("node", "1"), "OK");
  same(await client.multi().incr("node").get("node").exec(), [2, "2"]);
  const replies = await Promise.all(Array.from({ length: 500 }, (_, i) => client.echo(String(i))));
  same(replies, Array.from({ length: 500 }, (_, i) => String(i)));
  const subscriber = client.duplicate();
  subscriber.on("error", () => {});
  await subscriber.connect();
  const heard = new Promise((resolve) => subscriber.subscribe("node-news", resolve).catch(resolve));
  const again = setInterval(() => client.publish("node-news", "hello").catch(() => {}), 50);
  same(await heard, "hello");
  clearInterval(again);
  await subscriber.close();
  await client.close();
  done.push(`redis ${RESP}`);
}

async function refused() {
  const socket = { host, port: Number(port), reconnectStrategy: false, ...(tls ? { tls: true, ...tls } : {}) };
  const client = createClient({ socket, username: "root", password: "x" });
  client.on("error", () => {});
  const message = await client.connect().then(() => "in", (error) => error.message);
  same(message.includes("DB_USER_NOT_ALLOWED"), true);
  done.push("refused");
}

await ioredis();
await nodeRedis(2);
await nodeRedis(3);
await refused();
console.log(JSON.stringify(done));
process.exit(0);
