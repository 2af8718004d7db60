// SPDX-License-Identifier: Apache-2.0
//
// A SIP.js user agent in Node, which is told and tells the same as jssip.mjs.
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
const { UserAgent, Registerer, Messager } = await import("sip.js");

const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
let ua, registerer, domain;

async function start(c) {
  domain = c.domain;
  ua = new UserAgent({
    uri: UserAgent.makeURI(`sip:${c.name}@${c.domain}`),
    transportOptions: { server: c.server, connectionTimeout: 10 },
    authorizationUsername: c.name,
    authorizationPassword: c.password,
    logBuiltinEnabled: false,
    delegate: {
      onConnect: () => say("connected"),
      onDisconnect: (error) => say("disconnected", { reason: error && String(error) }),
      onMessage: (message) => {
        message.accept();
        say("message", { from: message.request.from.uri.user, text: message.request.body });
      },
    },
  });
  await ua.start();
  registerer = new Registerer(ua, { expires: 600, regId: 1, instanceId: c.instance });
  registerer.stateChange.addListener((state) => say(state.toLowerCase()));
  await registerer.register({
    requestDelegate: { onReject: (r) => say("failed", { status: r.message.statusCode }) },
  });
}

function send(c) {
  const answered = (r) => say("answered", { status: r.message.statusCode });
  return new Messager(ua, UserAgent.makeURI(`sip:${c.to}@${domain}`), c.text).message({
    requestDelegate: { onAccept: answered, onReject: answered },
  });
}

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const c = JSON.parse(line);
    try {
      if (c.do === "start") await start(c);
      if (c.do === "message") await send(c);
      if (c.do === "unregister") await registerer.unregister();
    } catch (e) {
      say("error", { text: String(e) });
    }
  })
  .on("close", () => process.exit(0));
say("ready");
