// The same work in Node.js: take a message, post it, acknowledge it. amqplib and undici, which are what one takes for it;
// a pool of kept connections, as many as requests may be under way.
import amqplib from "amqplib";
import { Pool } from "undici";

const gateway = new URL(process.env.BENCH_GATEWAY);
const pool = new Pool(gateway.origin, { connections: Number(process.env.BENCH_IN_FLIGHT), pipelining: 1 });
const headers = { authorization: `Bearer ${process.env.BENCH_KEY}`, "content-type": "application/json" };

const connection = await amqplib.connect(process.env.BENCH_BROKER);
const channel = await connection.createChannel();
await channel.prefetch(Number(process.env.BENCH_PREFETCH));
await channel.consume(process.env.BENCH_QUEUE, async (message) => {
  if (message === null) process.exit(1);
  const { statusCode, body } = await pool.request({ path: gateway.pathname, method: "POST", headers, body: message.content });
  await body.text();
  if (statusCode !== 200) throw new Error(`the gateway answered ${statusCode}`);
  channel.ack(message);
});
