// What npm's mongodb does first and most: said and checked here, one JSON line as the result.
// Usage: node mongo_clients.mjs PORT OPTIONS [CA_FILE]; OPTIONS as they stand in a URI
import { deepStrictEqual as same } from "node:assert";
import dialled from "./dialled.mjs";
import { MongoClient } from "mongodb";

const [port, options, caFile] = process.argv.slice(2);
const host = caFile ? "localhost" : "127.0.0.1";
const client = new MongoClient(`mongodb://${host}:${port}/?${options}`, {
  ...(caFile ? { tls: true, tlsCAFile: caFile, family: 4 } : {}),
  heartbeatFrequencyMS: 500,
  serverSelectionTimeoutMS: 20000,
});
const heard = new Set();
client.on("serverOpening", (event) => heard.add(event.address));
await client.connect();
const name = `node${process.pid}`;
const rows = client.db("app").collection(name);
await rows.insertMany(Array.from({ length: 1000 }, (_, _id) => ({ _id, even: _id % 2 === 0 })));
same(await rows.countDocuments({ even: true }), 500);
same((await rows.find().sort({ _id: 1 }).batchSize(7).toArray()).map((row) => row._id), [...Array(1000).keys()]);
same((await rows.updateMany({ even: true }, { $set: { seen: 1 } })).modifiedCount, 500);
const duplicate = await rows.insertOne({ _id: 1 }).catch((error) => error.code);
same(duplicate, 11000);
const session = client.startSession();
await session.withTransaction(() => rows.insertOne({ _id: "kept" }, { session }));
session.startTransaction();
await rows.insertOne({ _id: "lost" }, { session });
await session.abortTransaction();
await session.endSession();
same(await rows.countDocuments({ _id: { $in: ["kept", "lost"] } }), 1);
const parallel = await Promise.all(Array.from({ length: 300 }, (_, _id) => rows.findOne({ _id })));
same(parallel.map((row) => row._id), [...Array(300).keys()]);
await rows.drop();
const denied = await client.db("payroll").collection("people").findOne().catch((error) => [error.code, error.message]);
await client.close();
console.log(JSON.stringify({ heard: [...heard], denied, dialled: [...dialled] }));
