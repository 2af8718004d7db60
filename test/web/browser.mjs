// SPDX-License-Identifier: Apache-2.0
//
// A headless Chromium with SIP.js and JsSIP phones in it. Commands are JSON lines on stdin, what happens is
// JSON lines on stdout; both are the page's (phone.html):
//
//     {"do":"start","name":"web","domain":"example.com","server":"wss://127.0.0.1:8443"}
//     {"event":"registration","name":"web","state":"Registered"}
//
// The browser is spoken to over two pipes, and the page is served on a port that the system
// chooses: nothing here can meet another run.
import { spawn } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const types = { ".js": "text/javascript", ".html": "text/html", ".json": "application/json" };
const ours = { "/": "phone.html", "/jssip_phone.js": "jssip_phone.js" }; // else a library's

const files = createServer((request, response) => {
  const path = normalize(decodeURIComponent(request.url.split("?")[0]));
  const file = ours[path] ? join(here, ours[path]) : join(here, "node_modules", path);
  response.setHeader("Content-Type", types[file.slice(file.lastIndexOf("."))] || "text/plain");
  createReadStream(file).on("error", () => response.writeHead(404).end()).pipe(response);
});

const profile = mkdtempSync(join(tmpdir(), "weir-browser-"));
const browser = spawn("chromium", [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-dev-shm-usage", "--ignore-certificate-errors", "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream", "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank",
], {
  stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
  env: { ...process.env, HOME: profile, TMPDIR: profile }, // what it leaves behind goes with it
});

// Its helpers write into the profile until they notice that the browser is gone.
let status = 1;
function leave(with_) {
  status = with_;
  browser.kill("SIGKILL");
}
browser.on("exit", () => {
  rmSync(profile, { recursive: true, force: true, maxRetries: 50 });
  process.exit(status);
});
browser.on("error", (e) => { console.error(String(e)); process.exit(1); });
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => leave(0));

// The DevTools protocol: JSON, each ended by a zero byte.
let last = 0, session;
const waiting = new Map();
function ask(method, params = {}) {
  const id = ++last;
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}
function heard(message) {
  if (message.id) {
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    return message.error ? reject(new Error(message.error.message)) : resolve(message.result);
  }
  if (message.method === "Runtime.bindingCalled") console.log(message.params.payload);
}
let rest = "";
browser.stdio[4].setEncoding("utf8").on("data", (text) => {
  const parts = (rest + text).split("\0");
  rest = parts.pop();
  for (const part of parts) heard(JSON.parse(part));
});

await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));
const { targetInfos } = await ask("Target.getTargets");
const page = targetInfos.find((t) => t.type === "page");
({ sessionId: session } = await ask("Target.attachToTarget", { targetId: page.targetId, flatten: true }));
await ask("Runtime.enable");
await ask("Runtime.addBinding", { name: "tell" });
await ask("Page.enable");
await ask("Page.navigate", { url: `http://localhost:${files.address().port}/` });
createInterface({ input: process.stdin })
  .on("line", (line) => ask("Runtime.evaluate", { expression: `window.phone(${JSON.stringify(line)})` }))
  .on("close", () => leave(0));
