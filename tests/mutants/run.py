#!/usr/bin/env python3
"""Disables each guard of `mutants.toml` in turn, in a copy, and says which tests notice.

A guard that can be taken away without any test failing is a guard that the next change may take away
without anybody seeing it.
"""

import argparse
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
# A mutant may well make a test wait for ever.
BUILD_LIMIT, TEST_LIMIT = 1800, 300
FAILED = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$", re.MULTILINE)


class Broken(Exception):
    """Something that isn't a verdict: the table is stale, a mutant doesn't compile."""


def environment():
    """The caller's, but the copy's own target, and no golden file rewritten by a mutant."""
    kept = {k: v for k, v in os.environ.items() if k not in ("UPDATE_GOLDEN", "PROPTEST_CASES")}
    target = str(WORK / "target")
    return kept | {"CARGO_TARGET_DIR": target, "CARGO_PROFILE_DEV_DEBUG": "none"}


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
    """The exit code and all that was said; what overstays its time is ended with its children."""
    process = subprocess.Popen(
        command, cwd=COPY, env=environment(), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Broken(f"`{' '.join(command)}` took longer than {limit} s") from None
    return process.returncode, said


def failing(arguments):
    """Names of the tests that fail. Failing to compile is no failing test."""
    cargo = [os.environ.get("CARGO", "cargo"), "test", "--locked", "--quiet"]
    options, _, filters = arguments.partition(" -- ")
    code, said = run([*cargo, "--no-run", *options.split()], BUILD_LIMIT)
    if code:
        raise Broken(f"`cargo test {options}` doesn't compile:\n{said[-2000:]}")
    cargo.remove("--quiet")
    # All that fails is wanted, not the first test binary's share.
    command = [*cargo, "--no-fail-fast", *options.split(), "--", *filters.split()]
    code, said = run(command, TEST_LIMIT)
    names = FAILED.findall(said)
    if code and not names:
        raise Broken(f"`cargo test {arguments}` failed without a failing test:\n{said[-2000:]}")
    if not code and not re.search(r"^running [1-9]", said, re.MULTILINE):
        raise Broken(f"`cargo test {arguments}` ran no test")
    return names


def replace(mutant):
    """The file's text before and after."""
    path = COPY / mutant["file"]
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


def hunt(mutant, commands):
    """The tests that notice; the first command that has any is enough."""
    path, before, after = replace(mutant)
    path.write_text(after)
    try:
        for name in mutant["tests"]:
            if names := failing(commands[name]):
                return names
        return []
    finally:
        path.write_text(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="only guards whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="name the guards and run nothing")
    options = parser.parse_args()
    table = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())
    commands, mutants = table["commands"], table["mutant"]
    wanted = lambda m: not options.only or any(part in m["guard"] for part in options.only)
    mutants = [mutant for mutant in mutants if wanted(mutant)]
    if not mutants:
        sys.exit("no guard has such a name")
    if options.list:
        for mutant in mutants:
            print(f"{mutant['guard']}: {mutant['disables']}")
        return 0
    copy()
    try:
        # Before anything long: a stale table.
        for mutant in mutants:
            replace(mutant)
        for name in dict.fromkeys(name for mutant in mutants for name in mutant["tests"]):
            start = time.monotonic()
            if names := failing(commands[name]):
                raise Broken(f"without any mutant these fail already: {', '.join(names)}")
            print(f"passes   as it is: {name} ({time.monotonic() - start:.0f} s)", flush=True)
    except Broken as error:
        sys.exit(f"mutants: {error}")
    caught = survived = erred = 0
    for mutant in mutants:
        start, what = time.monotonic(), f"{mutant['guard']}: {mutant['disables']}"
        try:
            names = hunt(mutant, commands)
        except Broken as error:
            erred += 1
            print(f"ERROR    {what}: {error}", flush=True)
            continue
        seconds = f"({time.monotonic() - start:.0f} s)"
        if names:
            caught += 1
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            print(f"caught   {what}: by {', '.join(names[:3])}{more} {seconds}", flush=True)
        else:
            survived += 1
            print(f"SURVIVED {what} {seconds}", flush=True)
    print(f"{caught} caught, {survived} survived" + (f", {erred} erred" if erred else ""))
    return 1 if survived or erred else 0


if __name__ == "__main__":
    sys.exit(main())
