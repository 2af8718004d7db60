# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: configurations, commands and their output, options, tables, links.

Blocks are told apart by the first line of their fence:

    ```yaml                  a whole file that `weir check` finds fine
    ```yaml file=NAME        the same, and the commands of its document find it under that name
    ```yaml bad …            one that it refuses
    ```yaml part             some sections, for the smallest file of the README
    ```console               commands (`$ weir …`) with what they say; all end with status 0
    ```console fails         all end with another status
    ```text file=NAME        a file that configurations of its document name

In what is said, numbers may differ, "…" stands for anything in a line, and a line of only "…" for
any lines. Addresses of a document become those of its case; its targets are there, and its
edge.yaml runs as soon as a command asks for it.
"""
import glob
import os
import re
import shlex
import subprocess

from kit import procs, tls
from kit.case import case
from kit.ends import check, equal, until

FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.S | re.M)
ASKS = re.compile(r"\bweir (show|reload|drain|undrain|guard|target|unbind)\b")
SMALLEST = "README.md"


def documents():
    """All of them, by their path from the root."""
    names = glob.glob("*.md", root_dir=procs.ROOT)
    names += glob.glob("docs/**/*.md", root_dir=procs.ROOT, recursive=True)
    return sorted(names)


def read(name):
    with open(os.path.join(procs.ROOT, name), encoding="utf-8") as f:
        return f.read()


def blocks(name, language):
    """(place, words behind the language, text) of each block."""
    text = read(name)
    return [(f"{name}:{text.count(chr(10), 0, m.start()) + 1}", m.group(2).split(), m.group(3))
            for m in FENCE.finditer(text) if m.group(1) == language]


def file_name(words):
    return next((w[5:] for w in words if w.startswith("file=")), None)


def section(name, title):
    """The text under a heading, up to the next of its level or above."""
    m = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", read(name), re.S | re.M)
    check(m, f"{name} has a section {title!r}")
    return m.group(2)


def first_cells(text):
    """What stands in code in the first column of the tables of a text."""
    cells = re.findall(r"^\| ([^|]+) \|", text, re.M)
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def lay_out(folder, name):
    """The files that the configurations of a document name: its blocks of text, certificates for
    each pair in the folder itself, secrets."""
    files = {file_name(words): text for _, words, text in blocks(name, "text") if file_name(words)}
    shown = "".join(text for _, _, text in blocks(name, "yaml"))
    for pair in sorted(set(re.findall(r"\bcert: ([\w.-]+)\.pem, key: \1\.key", shown))):
        tls.Authority(folder, f"ca-{pair}").sign(pair)
    for tokens in re.findall(r"\btokens: ([\w.-]+)", shown):
        files[tokens] = "a secret of the documents\n"
    for file, text in files.items():
        with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(f.name, 0o600)


def weir(t, *words, folder=None):
    return subprocess.run([procs.binary(t.build), *words], cwd=folder or t.folder, text=True,
                          capture_output=True, timeout=20, check=False)


# ---- configurations --------------------------------------------------------------------------

def smallest():
    return next(text for _, words, text in blocks(SMALLEST, "yaml") if not words or
                file_name(words) == "edge.yaml")


def completed(part):
    """The smallest file with its sections replaced by those of `part`."""
    whole = re.split(r"^(?=\w)", smallest(), flags=re.M)
    keys = re.findall(r"^(\w+):", part, re.M)
    return "".join(s for s in whole if s.split(":")[0] not in keys) + part


@case("docs: every configuration shown is fine, or as wrong as it is said to be")
def _(t):
    count = 0
    for name in documents():
        lay_out(t.folder, name)
        for place, words, text in blocks(name, "yaml"):
            with open(os.path.join(t.folder, "shown.yaml"), "w", encoding="utf-8") as f:
                f.write(completed(text) if "part" in words else text)
            done = weir(t, "check", "-c", "shown.yaml")
            equal(done.returncode, 78 if "bad" in words else 0, f"{place}: {done.stderr}")
            count += 1
    check(count >= 8, f"{count} configurations")


@case("docs: the reference of the file is what the program says")
def _(t):
    said = weir(t, "check", "--reference").stdout.splitlines()
    shown = read("docs/manual/weir.yaml.5.md").splitlines()
    different = [pair for pair in zip(said, shown) if pair[0] != pair[1]]
    equal((different[:1], len(shown)), ([], len(said)), "first line that differs, and lines")


# ---- commands --------------------------------------------------------------------------------

class Session:
    """The commands of one document, one after another in one folder."""

    def __init__(self, t, name):
        self.t, self.name = t, name
        self.places, self.weir = {}, None
        self.socket = os.path.join(t.folder, "weir.sock")
        lay_out(t.folder, name)
        os.mkdir(os.path.join(t.folder, "bin"))
        os.symlink(procs.binary(t.build), os.path.join(t.folder, "bin/weir"))
        for _, words, text in blocks(name, "yaml"):
            if file_name(words):
                with open(os.path.join(t.folder, file_name(words)), "w", encoding="utf-8") as f:
                    f.write(self.moved(text) + ("" if "bad" in words else
                                                "control: weir.sock\nlog: {to: weir.log}\n"))

    def moved(self, text):
        """The text with this case's addresses in the place of those that are shown."""
        def place(m):
            return self.places.setdefault(m.group(0), self.t.ip(len(self.places) + 1))
        return re.sub(r"(?<![\d.])\d+\.\d+\.\d+\.\d+(?![\d./])", place, text)

    def run_weir(self):
        """Starts the edge, and a server in the place of each target. Returns what it said."""
        if self.weir is None:
            with open(os.path.join(self.t.folder, "edge.yaml"), encoding="utf-8") as f:
                text = f.read()
            own = set(re.findall(r'bind: "\w+://([\d.]+:\d+)"', text))
            for tp, ip, port in re.findall(r'"(udp|tcp)://([\d.]+):(\d+)"', text):
                if f"{ip}:{port}" not in own:
                    self.t.server(int(ip.rsplit(".", 1)[1]), int(port), tcp=tp == "tcp")
            self.weir = self.t.keep(Edge(self.t.folder, [procs.binary(self.t.build), "run", "-c",
                                                         "edge.yaml"]))
            self.weir.wait_ready()
            until(lambda: self.weir.output().endswith("\n"), "the end of the line")
        return self.weir.output()

    def command(self, line):
        """(exit status, what it said) of one line."""
        words = shlex.split(line)
        if words[:2] == ["weir", "run"]:
            return 0, self.run_weir()
        if ASKS.search(line):
            self.run_weir()
        path = os.path.join(self.t.folder, "bin")
        done = subprocess.run(["sh", "-c", line], cwd=self.t.folder, text=True, timeout=20,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}",
                                   "WEIR_SOCKET": self.socket})
        return done.returncode, done.stdout


class Edge(procs.Weir):
    """`weir run` with a file that is there already."""

    def __init__(self, folder, command):
        procs.Proc.__init__(self, folder, "weir", command)


def pattern(line):
    """A line as it is shown: blanks and numbers are not exact, "…" is anything."""
    out = ""
    for piece in re.findall(r"…|\s+|\d+|\bworkers?\b|\D", line):
        if piece == "…":
            out += ".*"
        elif piece.isspace():
            out += r"\s+"
        elif piece.isdigit():
            out += r"\d+"
        elif piece in ("worker", "workers"):
            out += "workers?"
        else:
            out += re.escape(piece)
    return re.compile(r"\s*" + out + r"\s*")


def compare(place, shown, said):
    """Each line that is shown was said; without a line of only "…" nothing else was."""
    left = [line for line in said.splitlines() if line.strip()]
    wanted = [line for line in shown if line.strip()]
    for line in wanted:
        if line.strip() == "…":
            continue
        hit = next((x for x in left if pattern(line).fullmatch(x)), None)
        check(hit is not None, f"{place}: shown but not said: {line}\nsaid:\n{said}")
        left.remove(hit)
    check(not left or "…" in [line.strip() for line in wanted],
          f"{place}: said but not shown: {left[:3]}")


def commands_of(text):
    """(command, lines that follow it)."""
    out = []
    for line in text.splitlines():
        if line.startswith("$ "):
            out.append((line[2:], []))
        else:
            out[-1][1].append(line)
    return out


def run_document(t, name):
    session, count = Session(t, name), 0
    for place, words, text in blocks(name, "console"):
        for line, shown in commands_of(session.moved(text)):
            check(line.startswith("weir "), f"{place}: no command of ours: {line}")
            status, said = session.command(line)
            check((status != 0) == ("fails" in words), f"{place}: {line}: {status}\n{said}")
            compare(place, shown, said)
            count += 1
    return count


for document, least in (("README.md", 3), ("docs/manual/weir.1.md", 12),
                        ("docs/manual/operating.md", 7), ("docs/manual/registrar.md", 2)):
    @case(f"docs: the commands of {document} do what is shown", timeout=60)
    def _(t, document=document, least=least):
        count = run_document(t, document)
        check(count >= least, f"{count} commands")


@case("docs: commands stand in documents that are run")
def _(t):
    ran = {"README.md", "docs/manual/weir.1.md", "docs/manual/operating.md",
           "docs/manual/registrar.md"}
    for name in documents():
        if name not in ran:
            equal([place for place, _, _ in blocks(name, "console")], [], "blocks of commands")


@case("docs: registrar.md makes hashes as it shows them")
def _(t):
    text = read("docs/manual/registrar.md")
    users = next(x for _, words, x in blocks("docs/manual/registrar.md", "text") if words)
    lines = re.findall(r"^printf .*$", text, re.M)
    for line in lines:
        said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
        user, realm, _ = re.search(r"'(\w+):([\w.]+):([^']+)'", line).groups()
        check(re.search(rf"^{user}:{realm}:.*{said.split()[0]}", users, re.M), f"{line}: {said}")
    check(len(lines) >= 3, f"{len(lines)} commands")


# ---- options ---------------------------------------------------------------------------------

MAN = "docs/manual/weir.1.md"
OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")


def subcommands(t):
    return list(dict.fromkeys(re.findall(r"^  weir (\w+)", weir(t, "help").stdout, re.M)))


@case("docs: weir(1) has every command with every option, and no other")
def _(t):
    names = subcommands(t)
    check(len(names) >= 8, f"commands: {names}")
    titles = re.findall(r"^## weir (\w+)$", read(MAN), re.M)
    equal(sorted(titles), sorted(names), "sections")
    for name in names:
        text = section(MAN, f"weir {name}")
        check(f"$ weir {name}" in text or "$ weir check -c edge.yaml && weir " + name in text,
              f"an example of weir {name}")
        if name in ("help", "version"):
            continue
        said = set(re.findall(r"^ +(?:(-\w), )?(--[\w-]+)", weir(t, name, "--help").stdout, re.M))
        wanted = {o for pair in said for o in pair if o}
        shown = {o for o in first_cells(text) if o.startswith("-")}
        equal(shown, wanted, f"options of weir {name}")


@case("docs: every option that a document gives to a command exists")
def _(t):
    helps = {n: weir(t, n, "--help").stdout for n in subcommands(t)}
    count = 0
    for name in documents():
        text = re.sub(r"^```\w*[^\n]*$", "", read(name), flags=re.M)
        uses = re.findall(r"\bweir (\w+)((?: +[^`\n|&;.]+)?)", text)
        for command, rest in uses:
            if command not in helps:
                continue
            for option in OPTION.findall(rest):
                check(re.search(rf"(?<![\w-]){option}(?![\w-])", helps[command]),
                      f"{name}: weir {command} has no {option}")
                count += 1
    check(count >= 10, f"{count} options")


@case("docs: weir(1) has every variable that the helps name")
def _(t):
    said = {v for n in ["", *subcommands(t)]
            for v in re.findall(r"\b(WEIR_[A-Z]+)", weir(t, "help", *n.split()).stdout)}
    check("WEIR_SOCKET" in said, f"variables: {said}")
    equal({v for v in first_cells(section(MAN, "Environment")) if v.startswith("WEIR_")}, said,
          "variables")


@case("docs: exit statuses are those of the program")
def _(t):
    said = set(re.findall(r"(?:status: |, |\n)(\d+) ", weir(t, "help").stdout))
    equal({int(x) for x in re.findall(r"^\| (\d+) \|", section(MAN, "Exit status"), re.M)},
          {int(x) for x in said}, "statuses")


# ---- tables ----------------------------------------------------------------------------------

def source(name):
    with open(os.path.join(procs.ROOT, name), encoding="utf-8") as f:
        return f.read()


@case("docs: operating.md has every counter, with its meaning")
def _(t):
    edge = t.edge([t.server()])
    text = read("docs/manual/operating.md")
    counters = set(edge.show("counters")[0]) - {"worker"}
    table = section("docs/manual/operating.md", "Counters")
    first = table.split("\n\n")[1]
    equal(set(first_cells(first)), counters, "counters")
    for line in edge.command("show", "counters")[1].splitlines()[1:]:
        name, _, meaning = re.match(r"(\w+) +(\d+) +(.*)", line).groups()
        check(f"| `{name}` | {meaning} |" in table, f"{name}: {meaning}")
    for name in edge.show("workers")[0]:
        known = f"`{name}`" in text or name in ("relays", "relays_open", "tries", "blocks", "flows")
        check(known or name in ("worker", "draining", "busy", "log_lost", "connections"),
              f"weir show workers: {name}")


@case("docs: log.md has every field of the log, in its order, and every letter")
def _(t):
    fields = ["time"] + re.findall(r"^ +X\((\w+)\)", re.search(
        r"#define LOG_FIELDS.*?\n\n", source("src/observe/log.c"), re.S).group(0), re.M)
    table = section("docs/manual/log.md", "Fields")
    equal(first_cells(table.split("| field |")[1]), fields, "fields")
    always = {f for f in fields if re.search(rf"^\| `{f}` \|[^|]*always", table, re.M)}
    server = t.server(invite=((0, 486),))
    edge = t.edge([server])
    t.call().invite().final()
    t.call(t.end(101), max_forwards=0).invite().final()
    rows = edge.logged(lambda r: True, 2)
    for row in rows:
        equal(always - set(row), set(), f"fields that are always there: {row}")
        equal(set(row) - set(fields), set(), "fields that are documented")
    equal([r["end"] for r in rows], ["SH", "PR"], "ends")
    letters = section("docs/manual/log.md", "End state")
    who = source("src/observe/observe.h")
    who = re.search(r"who    - .*?phase", who, re.S).group(0)
    for letter in re.findall(r"(?:^|   )\s*\*?\s*([CSTNPR]) +\w", who, re.M):
        check(f"| `{letter}` |" in letters, f"letter {letter}")


def ends_shown():
    """Rows of log.md's table of ends: (letters, status, reason)."""
    table = section("docs/manual/log.md", "End state").split("| often seen |")[1]
    out = set()
    for cell in re.findall(r"^\| (`[^|]+) \|", table, re.M):
        reason = re.findall(r"`([^`]+)`", cell)[-1] if cell.count("`") > 2 else ""
        status = re.findall(r"\b\d\d\d\b", cell) or ["200"]
        for letters in re.findall(r"`([-CSTNPR][RQCHPD])`", cell):
            out |= {(letters, int(s), "" if reason == letters else reason) for s in status}
    return out


@case("docs: the ends that log.md shows are those that come", timeout=60)
def _(t):
    shown = ends_shown()
    server = t.server()
    weir_ = t.edge([server], {"failover": {"try": "300ms", "within": "600ms", "tries": 2},
                              "outlier": {"eject_after": "off"}}, limits={"transactions": 64},
                   timers={"t1": "20ms", "t4": "20ms", "connect": "5s"})
    end = t.end()

    def came(call, plan=None, cancel=None, **kw):
        if plan is not None:
            server.invite = plan
        call.invite(**kw)
        if cancel:
            if cancel == 180:
                call.provisional(180)
            else:
                server.wait(lambda m: m.method == "INVITE" and m.call_id == call.call_id)
            call.cancel()
        call.final()
        row = weir_.logged(lambda r: r["method"] == "INVITE" and r["call_id"] == call.call_id)[0]
        return row["end"], row["status"], row.get("reason", "")

    def target(word):
        equal(weir_.command("target", "border", "*", word)[0], 0, word)
    got = {"fine": came(t.call(end), ((0, 180), (0, 200)))}
    got["no"] = came(t.call(end), ((0, 486),))
    got["no after ringing"] = came(t.call(end), ((0, 180), (0.1, 603)))
    got["hung up"] = came(t.call(end), ((0, 180),), cancel=180)
    got["gave up"] = came(t.call(end), ((0, 100),), cancel=100)
    got["overloaded"] = came(t.call(end), ((0, 503),))
    got["silent"] = came(t.call(end), ())
    got["foreign"] = came(t.call(end, extra=[("Route", "<sip:192.0.2.1;lr>")]))
    target("maint")
    got["none left"] = came(t.call(end))
    target("ready")
    server.close()
    got["nobody there"] = came(t.call(end))
    weir_.write(t.config([f"tcp://{t.ip(10)}:5060"], routes=[{"from": "inside", "to": "border"}],
                         limits={"transactions": 64}))
    equal(weir_.command("reload")[0], 0, "reload")
    got["no rule"] = came(t.call(end))
    for name, what in got.items():
        check(what in shown, f"{name}: {what} is not in {sorted(shown)}")
    check(len(set(got.values())) == len(got), f"each is another: {got}")


@case("docs: operating.md has every notice that there is")
def _(t):
    table = section("docs/manual/operating.md", "Notices")
    words = re.findall(r"case (NOTICE_\w+):\s+return \"([^\"]+)\"", source("src/net/logger.c"))
    rooms = "".join(source(os.path.relpath(p, procs.ROOT)) for p in
                    glob.glob(os.path.join(procs.ROOT, "src/edge/*.c")))
    told = [(n, w) for n, w in words if n in rooms]
    check(len(told) >= 7, f"notices: {told}")
    for _, word in told:
        check(f"| `{word}` |" in table, f"notice {word!r}")


@case("docs: CODING.md has every rule that is checked; README's words of make exist")
def _(t):
    coding = read("docs/CODING.md")
    for rule in re.findall(r"^def rule_(\w+)", source("tools/tidy.py"), re.M):
        check(f"`{rule}`" in coding, f"tidy rule {rule}")
    check(coding.count("\n") < 250, "CODING.md is longer than 250 lines")
    make = source("Makefile")
    for name in documents():
        for target in re.findall(r"(?:^|`)make ([a-z]+)\b", read(name), re.M):
            check(re.search(rf"^{target}:|^\.PHONY:.*\b{target}\b", make, re.M),
                  f"{name}: make {target}")


# ---- links -----------------------------------------------------------------------------------

def anchors(text):
    out = set()
    for title in re.findall(r"^#+ (.*)$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        out.add(slug)
    return out


@case("docs: every link leads somewhere")
def _(t):
    count = 0
    for name in documents():
        text = FENCE.sub("", read(name))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            full = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
            check(os.path.exists(os.path.join(procs.ROOT, full)), f"{name}: {target}")
            if anchor:
                check(anchor in anchors(read(full)), f"{name}: {target}: no such heading")
            count += 1
    check(count >= 15, f"{count} links")


@case("docs: every file that a document names exists")
def _(t):
    for name in documents():
        text = FENCE.sub("", read(name))
        for path in re.findall(r"`((?:src|test|sim|fuzz|bench|tools|demo|docs)/[\w./-]*\w)`", text):
            check(os.path.exists(os.path.join(procs.ROOT, path)), f"{name}: {path}")
