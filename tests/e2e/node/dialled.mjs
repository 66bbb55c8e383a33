// Every address that a client of this process tries to connect to, as it asks for it.
import net from "node:net";

const dialled = new Set();
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  const [first] = Array.isArray(given[0]) ? given[0] : given;
  dialled.add(typeof first === "object" ? `${first.host}:${first.port}` : `${given[1]}:${first}`);
  return connect.apply(this, given);
};

export default dialled;
