// One client against the proxy: mysql2|mariadb PORT [CA]. Prints what it saw as JSON; a client that fails says why.
import { readFileSync } from "node:fs";

const [client, port, ca] = process.argv.slice(2);

function options(more) {
  const tls = ca ? { ssl: { ca: readFileSync(ca), rejectUnauthorized: true } } : {};
  return { host: "localhost", port: Number(port), user: "app", database: "app", ...tls, ...more };
}

async function refusal(action) {
  try {
    await action();
    return "";
  } catch (error) {
    return error.message;
  }
}

async function one(connect, password, special) {
  const connection = await connect(options({ password }));
  const ask = async (sql, values) => {
    const answer = await connection.execute(sql, values);
    return Array.isArray(answer[0]) ? answer[0] : answer; // mysql2 adds the fields
  };
  const [{ who }] = await ask("select current_user() as who", []);
  const [{ name }] = await ask("select customer as name from orders where id = ?", [2]);
  await connection.beginTransaction();
  await connection.rollback();
  const extra = await special(connection);
  await connection.end();
  const other = await connect(options({ password }));
  const changed = await refusal(() => other.changeUser({ user: "readonly" }));
  other.destroy();
  const denied = await refusal(() => connect(options({ password, user: "nobody" })));
  return { who, name, extra, changed, denied };
}

async function several(connection) {
  const [results] = await connection.query("select 1 as a; select 2 as a");
  return results.flat().map((row) => row.a);
}

async function bulk(connection) {
  await connection.query("create temporary table bulk (a int)");
  await connection.batch("insert into bulk values (?)", [[1], [2]]); // MariaDB's COM_STMT_BULK_EXECUTE
  const rows = await connection.query("select a from bulk order by a");
  await connection.reset();
  return rows.map((row) => row.a);
}

async function withMysql2(password) {
  const { default: mysql } = await import("mysql2/promise");
  return one((given) => mysql.createConnection({ ...given, multipleStatements: true }), password, several);
}

async function withMariadb(password) {
  const { default: mariadb } = await import("mariadb");
  return one((given) => mariadb.createConnection(given), password, bulk);
}

const seen = [];
for (const password of [undefined, "anything"]) {
  seen.push(await (client === "mysql2" ? withMysql2(password) : withMariadb(password)));
}
console.log(JSON.stringify(seen));
