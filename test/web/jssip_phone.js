// SPDX-License-Identifier: Apache-2.0
//
// A JsSIP phone in a page. The package is of CommonJS and has no bundle for browsers, so this holds
// the few lines that load one: modules are fetched as they are required, "browser" before "main".
const loaded = new Map();

function text(path) {
  const request = new XMLHttpRequest();
  request.open("GET", path, false);
  request.send();
  return request.status === 200 ? request.responseText : null;
}

function resolve(name, from) {
  let path = name.startsWith(".") ? new URL(name, `http://x${from}`).pathname : `/${name}`;
  if (!name.startsWith(".")) {
    const about = JSON.parse(text(`${path}/package.json`));
    const main = typeof about.browser === "string" ? about.browser : about.main;
    path = new URL(main, `http://x${path}/`).pathname;
  }
  const end = path.endsWith("/") ? "index.js" : /\.js(on)?$/.test(path) ? "" : ".js";
  return path + end;
}

function load(name, from) {
  const path = resolve(name, from);
  if (!loaded.has(path)) {
    const module = { exports: {} };
    loaded.set(path, module);
    const source = text(path);
    if (source === null) throw new Error(`no ${path} for ${from}`);
    if (path.endsWith(".json")) module.exports = JSON.parse(source);
    else new Function("module", "exports", "require", `${source}\n//# sourceURL=${path}`)(
      module, module.exports, (other) => load(other, path));
  }
  return loaded.get(path).exports;
}

const JsSIP = load("jssip", "/");
// A call without an offer gets ours, which JsSIP makes without audio unless it is told otherwise.
const media = {
  mediaConstraints: { audio: true, video: false },
  rtcOfferConstraints: { offerToReceiveAudio: true },
};

// It is told and tells what the page's phones of SIP.js are and do.
export class Phone {
  constructor(o, say) {
    this.say = (event, more = {}) => say(event, { name: o.name, ...more });
    this.refuses = o.refuses || 0; // with this status
    this.ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(o.server)],
      uri: `sip:${o.name}@${o.domain}`,
      authorization_user: o.name,
      password: o.password || "",
      instance_id: o.instance,
      register_expires: 600,
      session_timers: false,
    });
    this.ua.on("connected", () => this.say("transport", { state: "Connected" }));
    this.ua.on("disconnected", () => this.say("transport", { state: "Disconnected" }));
    this.ua.on("registered", () => this.say("registration", { state: "Registered" }));
    this.ua.on("unregistered", () => this.say("registration", { state: "Unregistered" }));
    this.ua.on("registrationFailed", (e) => this.say("rejected", { status: e.response?.status_code }));
    this.ua.on("newRTCSession", ({ originator, session }) => {
      if (originator === "remote") this.rings(session);
    });
  }
  register() {
    this.ua.start(); // and registers
  }
  follow(session, with_) {
    this.session = session;
    session.on("confirmed", () => this.say("session", { with: with_, state: "Established" }));
    session.on("ended", (e) => this.say("session", { with: with_, state: "Terminated", cause: e.cause }));
    session.on("failed", (e) => this.say("refused", {
      with: with_, status: e.message?.status_code || 0, cause: e.cause, by: e.originator,
    }));
  }
  rings(session) {
    const from = session.remote_identity.uri.user;
    this.say("ringing", { from });
    this.follow(session, from);
    if (this.refuses) session.terminate({ status_code: this.refuses });
    else session.answer(media);
  }
  call(user, domain) {
    this.follow(this.ua.call(`sip:${user}@${domain}`, media), user);
  }
  hangup() {
    this.session.terminate();
  }
  stop() {
    this.ua.stop();
  }
}
