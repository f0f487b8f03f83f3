// Colyseus, as its documentation shows it: a room with a schema, a simulation interval, patches at the same rate, and each
// number with the smallest type that holds it ("number" would add a byte to each).
import { Room, Server } from "@colyseus/core";
import { schema, t } from "@colyseus/schema";
import { WebSocketTransport } from "@colyseus/ws-transport";
import { z } from "zod";

const SIZE = 1000, SPEED = 5, TICK_MS = 50;
const [, , port, room = "10", option = ""] = process.argv;
const coarse = option === "coarse", validated = option === "validated";

// Positions as hundredths in 32-bit integers: what a quantized field with this range and step is elsewhere.
const Body = schema({ x: t.int32(), y: t.int32(), mark: t.uint32() }, "Body");
const State = schema({ bodies: t.map(Body) }, "State");
// With "coarse": 16 bits for the whole range, a step of 0.015 instead of 0.01.
const position = () => coarse ? t.quantized({ min: 0, max: SIZE, bits: 16 }) : t.int32();
const Unit = schema(
  { x: position(), y: position(), heading: t.float32(), hp: t.uint8(), score: t.uint32(), name: t.string() }, "Unit");
const Units = schema({ units: t.map(Unit) }, "Units");

class Swarm extends Room {
  maxClients = Number(room);
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
    const steer = (client, [dx, dy, mark]) => {
      const body = this.bodies.get(client.sessionId);
      body.dx = dx;
      body.dy = dy;
      body.shown.mark = mark;
    };
    // Checking what clients send is left to the author, with a library: that is a server of its own in the tables.
    if (validated) this.onMessage("steer", z.tuple([z.number(), z.number(), z.number().int().nonnegative()]), steer);
    else this.onMessage("steer", steer);
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

// Nothing happens: no simulation, and no patches to look for.
class Lounge extends Room {
  maxClients = 10;
  onCreate() {
    this.state = new State();
    this.patchRate = null;
    this.seatReservationTimeout = 60;
  }
  onJoin(client) {
    this.state.bodies.set(client.sessionId, new Body());
  }
}

// A hundred units, ten of which move in each tick, each in its turn.
class World extends Room {
  maxClients = 10;
  onCreate() {
    const state = this.state = new Units();
    this.patchRate = TICK_MS;
    const moving = [];
    for (let i = 0; i < 100; i++) {
      const unit = new Unit(), spot = Math.random() * SIZE;
      Object.assign(unit, { heading: 0, hp: 100, score: 0, name: `unit ${i}` });
      state.units.set(`u${i}`, unit);
      moving.push({ x: spot, y: SIZE - spot, unit });
    }
    const factor = coarse ? 1 : 100, shown = coarse ? (value) => value : Math.round;
    let turn = 0;
    this.setSimulationInterval(() => {
      for (let i = turn; i < 100; i += 10) {
        const one = moving[i];
        one.x = (one.x + SPEED * TICK_MS / 1000) % SIZE;
        one.y = (one.y + SPEED * TICK_MS / 1000) % SIZE;
        one.unit.x = shown(one.x * factor);
        one.unit.y = shown(one.y * factor);
      }
      turn = (turn + 1) % 10;
    }, TICK_MS);
  }
}

const server = new Server({ transport: new WebSocketTransport({ perMessageDeflate: false }), greet: false });
server.define("swarm", Swarm);
server.define("lounge", Lounge);
server.define("world", World);
await server.listen(Number(port), "127.0.0.1");
