#!/usr/bin/env python3
"""Disables each guard of `mutants.toml` in turn, in a copy, and says what notices: unit tests, properties,
the model checker, the crash suite, stories on the real parts.

A guard that can be taken away without anything failing is a guard that the next change may take away
without anybody seeing it.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
COPY = WORK / "copy"
# What has been found, by what it was found with: a run that is cut off goes on where it was.
FOUND = WORK / "found.json"
# A mutant may well make a test wait for ever.
BUILD_LIMIT, TEST_LIMIT = 1800, 600
FAILED = re.compile(
    r"^test (\S+)(?: - should panic)? \.\.\. FAILED$"  # cargo's
    r"|^  ([a-z0-9-]+, \w+, CALL=\d+)"  # the crash suite's
    r"|^ *([a-z0-9-]+(?:: the clean run|, nothing wrong)): "
    r"|^FAIL +(\S+)",  # a story's
    re.MULTILINE,
)
PACKAGES = ["--package", "surefoot", "--package", "surefoot-core", "--package", "surefoot-model"]
# One set of packages and targets, so that one build serves all.
TARGETS = ["--lib", "--test=crds", "--test=properties", "--test=letting_go", "--test=small", "--test=crash"]
LEVELS = {
    "unit": ["--lib", "--test=crds"],
    "property": ["--test=properties", "--test=letting_go"],
    "model": ["--test=small"],
    "crash": ["--test=crash"],
}
# Of the crash suite a sample of two stories, freezes among them.
CRASH = {"CRASH": "all", "ONLY": "abort pass", "KINDS": "before lost frozen", "POINTS": "12"}


class Broken(Exception):
    """Something that isn't a verdict: the table is stale, a mutant doesn't compile."""


def environment():
    """The caller's, but the copy's own target, and no golden file rewritten by a mutant."""
    kept = {k: v for k, v in os.environ.items() if k not in ("UPDATE_GOLDEN", "PROPTEST_CASES")}
    target = str(WORK / "target")
    return kept | CRASH | {"CARGO_TARGET_DIR": target, "CARGO_PROFILE_DEV_DEBUG": "none"}


def copy():
    """The tracked files as they lie there, to where they can be broken. What is the same already
    keeps its time, so that little is built anew."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    names = {name for name in listed.stdout.decode().split("\0") if name}
    names = {name for name in names if (ROOT / name).is_file()}
    for old in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(old.relative_to(COPY)) not in names:
            old.unlink()
    for name in names:
        source, to = ROOT / name, COPY / name
        if not to.is_file() or to.read_bytes() != source.read_bytes():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)
            shutil.copymode(source, to)


def run(command, limit):
    """The exit code and all that was said, the code none for what overstays its time: that is ended with
    its children."""
    process = subprocess.Popen(
        command, cwd=COPY, env=environment(), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return None, said
    return process.returncode, said


def cargo(*arguments):
    return [os.environ.get("CARGO", "cargo"), *arguments, "--locked"]


def build(levels, broken):
    """Failing to compile is no failing test. Who plays the stories and judges them stays unbroken."""
    wanted = []
    if any(level in LEVELS for level in levels):
        wanted.append(cargo("test", "--quiet", "--no-run", *PACKAGES, *TARGETS))
    if "e2e" in levels:
        whole = ["--package", "surefoot"] if broken else ["--workspace"]
        wanted.append(cargo("build", "--quiet", *whole))
    for command in wanted:
        code, said = run(command, BUILD_LIMIT)
        if code != 0:
            raise Broken(f"`{' '.join(command)}` doesn't compile:\n{said[-2000:]}")


def failing(command):
    """Names of what fails."""
    code, said = run(command, TEST_LIMIT)
    names = list(dict.fromkeys(" ".join(filter(None, found)) for found in FAILED.findall(said)))
    if code is None:
        return [*names, f"no end within {TEST_LIMIT} s"]
    if code and not names:
        raise Broken(f"`{' '.join(command)}` failed without a failing test:\n{said[-2000:]}")
    if not code and not re.search(r"^(running [1-9]|all +.* [1-9]\d*/|[1-9]\d* passed)", said, re.MULTILINE):
        raise Broken(f"`{' '.join(command)}` ran no test:\n{said[-2000:]}")
    return names


def notice(levels, stories, broken):
    """What fails of these levels, each with its name; of the stories these."""
    build(levels, broken)
    for level in levels:
        if level == "e2e":
            player = str(WORK / "target" / "debug" / "surefoot-e2e")
            command = [player, "run", "--exact", "--jobs", "3", *stories]
        else:
            # All that fails is wanted, not the first test binary's share.
            command = cargo("test", "--no-fail-fast", *PACKAGES, *LEVELS[level])
        yield level, failing(command)


def replace(mutant, at=COPY):
    """The file, and its text before and after."""
    path = at / mutant["file"]
    if not path.is_file():
        raise Broken(f"the table is stale: there is no {mutant['file']}")
    text = path.read_text()
    count = text.count(mutant["old"])
    if count != 1:
        raise Broken(
            f"the table is stale: the text to replace is {count} times in {mutant['file']}, "
            f"and must be once:\n{mutant['old']}"
        )
    return path, text, text.replace(mutant["old"], mutant["new"])


def hunt(mutant, levels, stories):
    """What notices, level by level."""
    path, before, after = replace(mutant)
    path.write_text(after)
    try:
        yield from notice(levels, stories, broken=True)
    finally:
        path.write_text(before)


def told(found):
    """`unit 2 (one, two), property -, …`"""
    def level(name, names):
        more = ", …" if len(names) > 2 else ""
        return f"{name} {len(names)} ({', '.join(names[:2])}{more})" if names else f"{name} -"
    return ", ".join(level(name, names) for name, names in found.items())


def sources():
    """A hash of all that mutants are made from."""
    found = hashlib.sha256()
    for path in sorted(COPY.rglob("*")):
        if path.is_file() and path.suffix in (".rs", ".toml", ".lock", ".yaml"):
            found.update(str(path.relative_to(COPY)).encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def digest(of_sources, mutant, level, stories):
    """Of all that decides what a level finds."""
    by = {"e2e": stories, "crash": (LEVELS["crash"], CRASH)}.get(level) or LEVELS[level]
    decides = (of_sources, sorted(mutant.items()), level, by)
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="only guards whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="name the guards and run nothing")
    parser.add_argument("--check", action="store_true", help="whether each guard is where it is said to be")
    parser.add_argument("--table", action="store_true", help="what is known, for docs/mutants.md")
    parser.add_argument(
        "--e2e", action="store_true", help="play the guards' stories on the real parts, too (make setup)"
    )
    options = parser.parse_args()
    mutants = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())["mutant"]
    wanted = lambda m: not options.only or any(part in m["guard"] for part in options.only)
    mutants = [mutant for mutant in mutants if wanted(mutant)]
    if not mutants:
        sys.exit("no guard has such a name")
    if options.list:
        for mutant in mutants:
            print(f"{mutant['guard']}: {mutant['disables']}")
        return 0
    if options.check:
        try:
            for mutant in mutants:
                replace(mutant, ROOT)
        except Broken as error:
            sys.exit(f"mutants: {error}")
        return 0
    copy()
    stories = lambda m: m.get("e2e", []) if options.e2e else []
    if options.e2e and not (COPY / ".cache").exists():
        (COPY / ".cache").symlink_to(ROOT / ".cache")
    known = json.loads(FOUND.read_text()) if FOUND.is_file() else {}
    now = sources()
    keys = lambda m: {
        level: digest(now, m, level, stories(m))
        for level in [*LEVELS, *(["e2e"] if stories(m) else [])]
    }
    if options.table:
        shown = [*LEVELS, *(["e2e"] if options.e2e else [])]
        print(f"| guard | {' | '.join(shown)} |\n|---{'|---' * len(shown)}|")
        for mutant in mutants:
            found = {level: known.get(key) for level, key in keys(mutant).items()}
            cell = lambda level: "" if level not in found else (
                "not known" if found[level] is None else str(len(found[level]) or "-")
            )
            print(f"| {mutant['guard']} | {' | '.join(cell(level) for level in shown)} |")
        return 0
    unknown = lambda m: [level for level, key in keys(m).items() if key not in known]
    try:
        # Before anything long: a stale table.
        for mutant in mutants:
            replace(mutant)
        if levels := sorted({level for m in mutants for level in unknown(m)}):
            start = time.monotonic()
            every = list(dict.fromkeys(story for m in mutants for story in stories(m)))
            failed = [name for _, names in notice(levels, every, broken=False) for name in names]
            if failed:
                raise Broken(f"without any mutant these fail already: {', '.join(failed)}")
            print(f"passes   as it is ({time.monotonic() - start:.0f} s)", flush=True)
    except Broken as error:
        sys.exit(f"mutants: {error}")
    caught = survived = erred = 0
    sums = dict.fromkeys([*LEVELS, "e2e"], 0)
    for mutant in mutants:
        start, what = time.monotonic(), f"{mutant['guard']}: {mutant['disables']}"
        try:
            if levels := unknown(mutant):
                for level, names in hunt(mutant, levels, stories(mutant)):
                    known[keys(mutant)[level]] = names
                    FOUND.write_text(json.dumps(known))
        except Broken as error:
            erred += 1
            print(f"ERROR    {what}: {error}", flush=True)
            continue
        found = {level: known[key] for level, key in keys(mutant).items()}
        for level, names in found.items():
            sums[level] += bool(names)
        well = any(found.values())
        caught, survived = caught + well, survived + (not well)
        word = "caught  " if well else "SURVIVED"
        print(f"{word} {what}: {told(found)} ({time.monotonic() - start:.0f} s)", flush=True)
    by = ", ".join(f"{count} by {level}" for level, count in sums.items() if count)
    print(f"{caught} caught ({by}), {survived} survived" + (f", {erred} erred" if erred else ""))
    return 1 if survived or erred else 0


if __name__ == "__main__":
    sys.exit(main())
