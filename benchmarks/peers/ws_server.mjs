// Node `ws`, as its documentation shows broadcasting: one payload per room, `send` to each client.
import { pack, unpack } from "msgpackr";
import { WebSocketServer } from "ws";

const SIZE = 1000, SPEED = 5, TICK_MS = 50;
const rooms = new Map();

function makeRoom(still) {
  const room = { tick: 0, bodies: new Map() };
  const send = (message) => {
    const payload = pack(message);
    for (const client of room.bodies.keys()) client.send(payload, { binary: true });
  };
  room.send = send;
  if (still) return room;
  setInterval(() => {
    room.tick++;
    const state = [];
    for (const body of room.bodies.values()) {
      body.x = (body.x + body.dx * SPEED * TICK_MS / 1000 + SIZE) % SIZE;
      body.y = (body.y + body.dy * SPEED * TICK_MS / 1000 + SIZE) % SIZE;
      state.push([Math.round(body.x * 100), Math.round(body.y * 100), body.mark]);
    }
    send([0, room.tick, state]);
  }, TICK_MS);
  return room;
}

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false });
server.on("connection", (client, request) => {
  const name = request.url;
  let room = rooms.get(name);
  if (!room) rooms.set(name, (room = makeRoom(name.startsWith("/lounge"))));
  const body = { x: Math.random() * SIZE, y: Math.random() * SIZE, dx: 1, dy: 0.5, mark: 0 };
  room.bodies.set(client, body);
  client.on("message", (data) => {
    const message = unpack(data);
    if (message[0] === 0) {
      body.dx = message[1];
      body.dy = message[2];
      body.mark = message[3];
    } else room.send([1, message[1]]);
  });
  client.on("close", () => room.bodies.delete(client));
  client.on("error", () => client.terminate());
});
