// Colyseus, as its documentation shows it: a room with a schema, a simulation interval, patches at the same rate.
import { Room, Server } from "@colyseus/core";
import { schema, t } from "@colyseus/schema";
import { WebSocketTransport } from "@colyseus/ws-transport";

const SIZE = 1000, SPEED = 5, TICK_MS = 50;

// Positions as hundredths in 32-bit integers: what a quantized field is elsewhere.
const Body = schema({ x: t.int32(), y: t.int32(), mark: t.uint32() }, "Body");
const State = schema({ bodies: t.map(Body) }, "State");

class Swarm extends Room {
  onCreate() {
    this.state = new State();
    this.patchRate = TICK_MS;
    this.seatReservationTimeout = 60;
    this.bodies = new Map();
    this.setSimulationInterval(() => {
      for (const body of this.bodies.values()) {
        body.x = (body.x + body.dx * SPEED * TICK_MS / 1000 + SIZE) % SIZE;
        body.y = (body.y + body.dy * SPEED * TICK_MS / 1000 + SIZE) % SIZE;
        body.shown.x = Math.round(body.x * 100);
        body.shown.y = Math.round(body.y * 100);
      }
    }, TICK_MS);
    this.onMessage("steer", (client, [dx, dy, mark]) => {
      const body = this.bodies.get(client.sessionId);
      body.dx = dx;
      body.dy = dy;
      body.shown.mark = mark;
    });
    this.onMessage("shout", (client, mark) => this.broadcast("shout", mark));
  }
  onJoin(client) {
    const shown = new Body();
    this.state.bodies.set(client.sessionId, shown);
    this.bodies.set(client.sessionId, { x: Math.random() * SIZE, y: Math.random() * SIZE, dx: 1, dy: 0.5, shown });
  }
  onLeave(client) {
    this.state.bodies.delete(client.sessionId);
    this.bodies.delete(client.sessionId);
  }
}

const room = Number(process.argv[3] || 10);
class Sized extends Swarm {
  maxClients = room;
}

const server = new Server({ transport: new WebSocketTransport({ perMessageDeflate: false }), greet: false });
server.define("swarm", Sized);
await server.listen(Number(process.argv[2]), "127.0.0.1");
