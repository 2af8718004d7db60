// SPDX-License-Identifier: Apache-2.0
//
// A JsSIP user agent in Node. Commands are JSON lines on stdin, what happens is JSON lines on stdout:
//
//     {"do":"start","name":"web","domain":"example.com","password":"…","server":"wss://127.0.0.1:8443"}
//     {"event":"registered"}
//     {"do":"message","to":"bob","text":"hello"}
//     {"event":"answered","status":200}
//
// NODE_EXTRA_CA_CERTS names who signed the server's certificate.
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
const { default: JsSIP } = await import("jssip");

const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
let ua, domain;

function start(c) {
  domain = c.domain;
  ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(c.server)],
    uri: `sip:${c.name}@${c.domain}`,
    authorization_user: c.name,
    password: c.password,
    register_expires: 600,
    session_timers: false,
  });
  ua.on("connected", () => say("connected"));
  ua.on("disconnected", (e) => say("disconnected", { code: e.code, reason: e.reason }));
  ua.on("registered", () => say("registered"));
  ua.on("unregistered", () => say("unregistered"));
  ua.on("registrationFailed", (e) => say("failed", { cause: e.cause, status: e.response?.status_code }));
  ua.on("newMessage", ({ originator, message, request }) => {
    if (originator === "remote") {
      say("message", { from: message.remote_identity.uri.user, text: request.body });
    }
  });
  ua.start();
}

function send(c) {
  ua.sendMessage(`sip:${c.to}@${domain}`, c.text, {
    eventHandlers: {
      succeeded: (e) => say("answered", { status: e.response.status_code }),
      failed: (e) => say("answered", { status: e.response?.status_code || 0, cause: e.cause }),
    },
  });
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const c = JSON.parse(line);
    if (c.do === "start") start(c);
    if (c.do === "message") send(c);
    if (c.do === "unregister") ua.unregister();
  })
  .on("close", () => process.exit(0));
say("ready");
