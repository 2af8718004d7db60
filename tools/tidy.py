#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that a program can check. `make tidy` runs all of them.

    tidy.py [--list] [RULE ...]

A finding is a line "path:line: what". Findings that stand in tools/tidy-exceptions.txt are let
through; an exception that no longer matches anything is itself a finding, so that list can only
shrink. Its lines: rule, path, name (of the function, symbol or word that the finding is about).
"""
import concurrent.futures
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
DEPS = "src/deps.txt"
EXCEPTIONS = "tools/tidy-exceptions.txt"
OBJECTS = "build/release/obj"

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1500
COLUMNS_MAX = 100

# What a pure room may call outside of the project: memory that it was given, and nothing else.
PURE_SYMBOLS = {"memcpy", "memmove", "memset", "memcmp", "bcmp", "memchr", "strlen",
                "memmem", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
# HMAC of tokens: OpenSSL's low-level SHA-256 works on a struct of ours and allocates nothing.
# WebSocket's opening handshake: its low-level SHA-1 likewise.
ROOM_SYMBOLS = {"flow": re.compile(r"SHA256(_\w+)?|CRYPTO_memcmp|OPENSSL_cleanse"),
                "wire": re.compile(r"SHA1_\w+|SHA(256|384)_\w+|CRYPTO_memcmp|OPENSSL_cleanse|"
                                   r"EVP_(Cipher|Encrypt|Decrypt)\w+|EVP_CIPHER_CTX_ctrl"),
                # Digest authentication (RFC 7616), and the keys of long contacts.
                "registrar": re.compile(r"(SHA256|MD5)_\w+")}
# A process that is about to abort says why.
FILE_SYMBOLS = {"src/base/check.c": {"write", "abort"}}
# Sections that an object of a pure room may have data in: constants only.
CONST_SECTIONS = re.compile(r"\.rodata|\.data\.rel\.ro|\.text|\.eh_frame")

BANNED = {
    "strcpy": "text_put", "strcat": "text_put", "strncpy": "text_put", "strncat": "text_put",
    "sprintf": "text_put or snprintf", "vsprintf": "vsnprintf", "gets": "fgets",
    "strtok": "slice_cut", "strtok_r": "slice_cut", "atoi": "text_parse_u64",
    "atol": "text_parse_u64", "atoll": "text_parse_u64", "atof": "nothing",
    "strtol": "text_parse_u64",
    "strtoul": "text_parse_u64", "strtoll": "text_parse_u64", "strtoull": "text_parse_u64",
    "sscanf": "a cursor", "scanf": "a cursor", "fscanf": "a cursor",
    "strcasecmp": "slice_equal_nocase", "strncasecmp": "slice_equal_nocase",
    "alloca": "an arena", "rand": "prng", "srand": "prng", "random": "prng", "srandom": "prng",
    "gethostbyname": "the resolver", "getaddrinfo": "the resolver", "system": "nothing",
    "popen": "nothing", "setjmp": "nothing", "longjmp": "nothing",
    "localtime": "gmtime_r", "gmtime": "gmtime_r", "ctime": "nothing", "asctime": "nothing",
    "inet_addr": "addr_parse", "inet_aton": "addr_parse", "inet_ntoa": "addr_write",
}
WORDS = re.compile(r"\b(FIX" r"ME|TO" r"DO|XX" r"X|HA" r"CK)\b")
PATHS = re.compile(r"(?<![\w.])/(work|root|home|Users)/\w")

CC = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-Isrc", "-Itest", "-I.", "-Wall", "-Wextra",
      "-Wconversion", "-Wshadow", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Werror",
      "-fsyntax-only", "-x", "c"]


class Finding:
    def __init__(self, rule, path, line, name, what):
        self.rule, self.path, self.line, self.name, self.what = rule, path, line, name, what

    def __str__(self):
        at = f"{self.path}:{self.line}" if self.line else self.path
        return f"{at}: {self.what}"


class Tree:
    """The files of the project, read once."""

    def __init__(self):
        os.chdir(ROOT)
        names = []
        for at, folders, files in os.walk("."):
            folders[:] = [f for f in folders if f not in (".git", "build", "__pycache__")]
            names += [os.path.relpath(os.path.join(at, n)) for n in files]
        self.names = sorted(n for n in set(names) if n and os.path.isfile(n))
        self.cache = {}
        self.rooms, self.pure = read_deps()

    def some(self, *suffixes, under=("",)):
        return [n for n in self.names if n.endswith(suffixes) and n.startswith(tuple(under))]

    def text(self, name):
        if name not in self.cache:
            with open(name, "rb") as f:
                self.cache[name] = f.read().decode("utf-8", "replace")
        return self.cache[name]

    def lines(self, name):
        return self.text(name).splitlines()

    def code(self, name):
        """The text without comments and the insides of literals; line numbers stay."""
        key = ("code", name)
        if key not in self.cache:
            self.cache[key] = strip_c(self.text(name))
        return self.cache[key]


def read_deps():
    rooms, pure = {}, set()
    with open(os.path.join(ROOT, DEPS), encoding="ascii") as f:
        for line in f:
            cells = line.split("#")[0].split()
            if cells:
                rooms[cells[0]] = set(cells[2:])
                if cells[1] == "pure":
                    pure.add(cells[0])
    return rooms, pure


def strip_c(text):
    pattern = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)

    def blank(m):
        s = m.group(0)
        if s[0] == "/":
            return "\n" * s.count("\n") or " "
        return s[0] + s[0]
    # Includes keep their file names.
    return "\n".join(keep if keep.startswith("#include") else line for keep, line in
                     zip(text.split("\n"), pattern.sub(blank, text).split("\n")))


def room_of(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


# ---- the rules -------------------------------------------------------------------------------

def rule_includes(tree):
    """An include goes down by src/deps.txt, and only through a room's door."""
    for path in tree.some(".c", ".h", under=("src/", "sim/", "test/", "fuzz/", "bench/")):
        room = room_of(path)
        for at, line in enumerate(tree.lines(path), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            target = m.group(1)
            other = target.split("/")[0]
            if ".." in target:
                yield Finding("includes", path, at, target, 'write "<room>/<file>"')
                continue
            if "/" not in target:
                if not os.path.isfile(os.path.join(os.path.dirname(path), target)):
                    yield Finding("includes", path, at, target, f'write "<room>/{target}"')
                continue
            if other not in tree.rooms:
                continue
            if room is not None:
                if other != room and other not in tree.rooms.get(room, set()):
                    yield Finding("includes", path, at, target,
                                  f"{room} may not include {other} ({DEPS})")
                elif other != room and target != f"{other}/{other}.h":
                    yield Finding("includes", path, at, target,
                                  f"{other}/{other}.h is the room's only door")
            elif path.startswith("sim/") and other in ("net", "config", "cli"):
                yield Finding("includes", path, at, target, "sim sees engine and below only")
            elif other == "cli" and not path.startswith("test/unit/"):
                yield Finding("includes", path, at, target, "nothing includes cli")
    for folder in sorted({room_of(p) for p in tree.some(".c", ".h", under=("src/",))} - {None}):
        if folder not in tree.rooms:
            yield Finding("includes", f"src/{folder}", 0, folder, f"no line in {DEPS}")


def nm(path):
    """(undefined, defined, sections of defined data) of one object."""
    out = subprocess.run(["nm", "--format=sysv", path], capture_output=True, text=True, check=True)
    undefined, defined, data = set(), set(), []
    for line in out.stdout.splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) < 7:
            continue
        name, kind, section = cells[0], cells[2], cells[6]
        if kind in ("U", "w", "v"):
            undefined.add(name)
            continue
        if kind.isupper():
            defined.add(name)
        if cells[3] in ("OBJECT", "TLS"):
            data.append((name, section))
    return undefined, defined, data


def rule_symbols(tree):
    """By nm: a pure room calls only what it may, and has no data that changes."""
    objects = {}
    for path in tree.some(".c", under=("src/",)):
        obj = f"{OBJECTS}/{path[:-2]}.o"
        if not os.path.exists(obj) or os.path.getmtime(obj) < os.path.getmtime(path):
            yield Finding("symbols", path, 0, "object", f"{obj} is missing or old: run make first")
            continue
        objects[path] = nm(obj)
    if len(objects) < len(tree.some(".c", under=("src/",))):
        return
    owner = {}
    for path, (_, defined, _) in objects.items():
        for name in defined:
            if name in owner and owner[name] != room_of(path):
                yield Finding("symbols", path, 0, name,
                              f"{name}() is defined in {owner[name]} too")
            owner[name] = room_of(path)
    for path, (undefined, _, data) in objects.items():
        room = room_of(path)
        for name in sorted(undefined):
            if name in owner:
                if owner[name] != room and owner[name] not in tree.rooms.get(room, set()):
                    yield Finding("symbols", path, 0, name,
                                  f"{room} may not call {name}() of {owner[name]} ({DEPS})")
            elif room in tree.pure and not symbol_allowed(path, room, name):
                yield Finding("symbols", path, 0, name, f"{room} is pure: it may not call {name}()")
        for name, section in data:
            if room in tree.pure and not CONST_SECTIONS.match(section):
                yield Finding("symbols", path, 0, name,
                              f"{room} is pure: {name} is data that can change ({section})")


def symbol_allowed(path, room, name):
    if name in PURE_SYMBOLS or name in FILE_SYMBOLS.get(path, ()):
        return True
    return room in ROOM_SYMBOLS and bool(ROOM_SYMBOLS[room].fullmatch(name))


def rule_banned(tree):
    """Calls that have a better way here."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(sorted(BANNED)) + r")\s*\(")
    for path in tree.some(".c", ".h", under=("src/", "sim/")):
        for at, line in enumerate(tree.code(path).split("\n"), 1):
            for m in pattern.finditer(line):
                yield Finding("banned", path, at, m.group(1),
                              f"{m.group(1)}() is banned, take {BANNED[m.group(1)]}")


def rule_lengths(tree):
    """Functions of 70 body lines, files of 1,500, lines of 100 columns."""
    sources = tree.some(".c", ".h", ".py", ".sh", "Makefile")
    for path in sources:
        lines = tree.lines(path)
        generated = any("Generated by" in x for x in lines[:5])
        if len(lines) > FILE_LINES_MAX and not generated:
            yield Finding("lengths", path, 0, "file",
                          f"{len(lines)} lines, at most {FILE_LINES_MAX}")
        for at, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX and not generated:
                yield Finding("lengths", path, at, f"column{at}",
                              f"{len(line)} columns, at most {COLUMNS_MAX}")
        if path.endswith(".c") and not generated:
            yield from long_functions(path, tree.code(path).split("\n"))


def long_functions(path, lines):
    start, name = None, ""
    for at, line in enumerate(lines, 1):
        if line == "{":
            start = at
            head = " ".join(lines[max(0, at - 8):at - 1])
            names = re.findall(r"(\w+)\s*\(", head.split(";")[-1].split("}")[-1])
            name = names[0] if names else "?"
        elif line == "}" and start is not None:
            if at - start - 1 > FUNCTION_LINES_MAX:
                yield Finding("lengths", path, start, name,
                              f"{name}() has {at - start - 1} lines, at most {FUNCTION_LINES_MAX}")
            start = None


def rule_headers(tree):
    """Each header stands alone, and is guarded."""
    headers = tree.some(".h", under=("src/", "sim/", "test/", "fuzz/", "bench/"))

    def compile_alone(path):
        done = subprocess.run(CC + ["-"], input=f'#include "{os.path.join(ROOT, path)}"\n',
                              capture_output=True, text=True, check=False)
        return path, done.stderr
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, errors in pool.map(compile_alone, headers):
            if errors:
                line = next((x for x in errors.splitlines() if "error" in x), errors)
                yield Finding("headers", path, 0, "alone", f"does not compile alone: {line}")
    for path in headers:
        if not re.search(r"#ifndef (WEIR_\w+_H)\n#define \1\n", tree.text(path)):
            yield Finding("headers", path, 0, "guard", "wants #ifndef WEIR_<ROOM>_<FILE>_H")


PROTOTYPE = re.compile(r"^(?!static|typedef|#|\s|extern)[\w_][\w\s\*\(\),]*?\b(\w+)\s*\(", re.A)


def rule_documented(tree):
    """Each function of a room's headers has a comment above its block, or beside it."""
    for path in tree.some(".h", under=("src/",)):
        if path.endswith("_int.h"):
            continue
        lines = tree.lines(path)
        code = tree.code(path).split("\n")
        for at, line in enumerate(code):
            m = PROTOTYPE.match(line.replace("MUST_USE ", "").replace("_Noreturn ", ""))
            if not m or not ends_as_prototype(code, at):
                continue
            if not has_comment(lines, code, at):
                yield Finding("documented", path, at + 1, m.group(1),
                              f"{m.group(1)}() has no comment")


def ends_as_prototype(code, at):
    text = ""
    for line in code[at:at + 12]:
        text += line
        if ";" in line or "{" in line:
            break
    return text.rstrip().endswith(";") and "{" not in text


def has_comment(lines, code, at):
    while at >= 0:
        if "/*" in lines[at] or "*/" in lines[at]:
            return True
        if not lines[at].strip() and at > 0:
            # A blank line ends the block, unless a comment stands right above it alone.
            return False
        at -= 1
    return False


def rule_covered(tree):
    """Each src file has a test: <file>_test.c, or a test that says "covers: <room>/<file>.c"."""
    covered = set()
    for path in tree.some("_test.c", ".py", under=("test/unit/", "test/scenario/case_")):
        room = path.split("/")[2]
        covered.add((room, path.split("/")[-1][:-len("_test.c")]))
        for m in re.finditer(r"covers:((?:[ \n*]+[\w/]+\.c,?)+)", tree.text(path)):
            for name in re.findall(r"([\w/]+)\.c", m.group(1)):
                parts = name.split("/")
                covered.add((parts[0] if len(parts) > 1 else room, parts[-1]))
    for path in tree.some(".c", under=("src/",)):
        key = (room_of(path), path.split("/")[-1][:-2])
        if key not in covered:
            yield Finding("covered", path, 0, "test",
                          f"no test/unit/{key[0]}/{key[1]}_test.c, and no test covers it")


def rule_generated(tree):
    """Generated files are what their generators would write now."""
    for path in tree.some(".py", under=("tools/gen-",)):
        done = subprocess.run([sys.executable, path, "--check"], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            yield Finding("generated", path, 0, "check", said[-1] if said else "out of date")


def rule_words(tree):
    """No debts in words, no paths of somebody's machine."""
    kinds = (".c", ".h", ".py", ".sh", ".md", ".txt", ".tsv", ".yaml", ".xml", ".cfg", "Makefile")
    for path in tree.some(*kinds):
        if path.startswith(("test/corpus/", "fuzz/corpus/")):
            continue
        for at, line in enumerate(tree.lines(path), 1):
            m = WORDS.search(line)
            if m:
                yield Finding("words", path, at, m.group(1), f"{m.group(1)}: do it or drop it")
            m = PATHS.search(line)
            if m:
                yield Finding("words", path, at, m.group(0), f"a path of a machine: {m.group(0)}")


def rule_form(tree):
    """Licence line, no tabs, no spaces at the end, one newline at the end of the file."""
    for path in tree.some(".c", ".h", ".py", ".sh"):
        text = tree.text(path)
        head = "\n".join(text.split("\n")[:2])
        if "SPDX-License-Identifier: Apache-2.0" not in head:
            yield Finding("form", path, 1, "licence", "no SPDX line")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            yield Finding("form", path, 0, "end", "wants exactly one newline at its end")
        for at, line in enumerate(text.split("\n"), 1):
            if "\t" in line and not path.endswith(".sh"):
                yield Finding("form", path, at, "tab", "a tab")
            if line != line.rstrip():
                yield Finding("form", path, at, "space", "space at the end of a line")


RULES = {name[5:]: fn for name, fn in list(globals().items()) if name.startswith("rule_")}


# ---- exceptions and the whole ----------------------------------------------------------------

def read_exceptions():
    out = {}
    if os.path.exists(EXCEPTIONS):
        with open(EXCEPTIONS, encoding="utf-8") as f:
            for at, line in enumerate(f, 1):
                cells = line.split("#")[0].split()
                if cells:
                    out[tuple(cells[:3])] = at
    return out


def main():
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")] or list(RULES)
    if "--list" in sys.argv:
        for name, fn in RULES.items():
            print(f"{name:12} {fn.__doc__}")
        return 0
    tree = Tree()
    exceptions = read_exceptions()
    used = set()
    failed = 0
    for rule in wanted:
        shown = []
        for finding in RULES[rule](tree):
            key = (finding.rule, finding.path, finding.name)
            if key in exceptions:
                used.add(key)
            else:
                shown.append(finding)
        for key, at in exceptions.items():
            if key[0] == rule and key not in used:
                shown.append(Finding(rule, EXCEPTIONS, at, "", f"not needed any more: {key}"))
        print(f"{'FAILED' if shown else 'ok':6} tidy {rule}: {RULES[rule].__doc__}")
        for finding in shown:
            print(f"       {finding}")
        failed += bool(shown)
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
