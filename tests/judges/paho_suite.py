"""Runs the interoperability tests of Eclipse Paho, which are not part of this project, against a door: each test alone and bounded.

usage: paho_suite.py FOLDER HOST PORT [--limit SECONDS] [--only NAME]...

FOLDER holds client_test.py (MQTT 3.1.1) and client_test5.py (MQTT 5) of a checkout of eclipse/paho.mqtt.testing, folder
`interoperability`. The door must know whoever calls from this machine without a password, since the suite has none. For each test one
line of JSON: suite, test, result (ok, failed: an assertion; error: any other exception; timeout) and, where it is not ok, the end of
what the test printed. Ends with status 1 if any was not ok. Tests may leave retained messages behind; the next one's start clears them.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

SUITES = ("client_test", "client_test5")
# Seconds for one test; the longest of them takes about 30.
LIMIT = 60
# Lines of a bad test's output that are shown.
SHOWN = 20

NAMES = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
FILTERS = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")


def suite(folder, name):
    """The module, without running its main part."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def names(module):
    return unittest.defaultTestLoader.getTestCaseNames(module.Test)


def one(folder, host, port, name, test):
    """Runs one test in this process; the last line printed is its result."""
    module = suite(folder, name)
    # What the main part would set as globals.
    prefix = "client_test5/" if name.endswith("5") else ""
    module.host, module.port, module.topic_prefix = host, port, prefix
    module.topics = tuple(prefix + n for n in NAMES)
    module.wildtopics = tuple(prefix + f for f in FILTERS)
    module.nosubscribe_topics = ("test/nosubscribe",)
    tests = unittest.defaultTestLoader.loadTestsFromName(f"Test.{test}", module)
    run = unittest.TextTestRunner(stream=sys.stdout, verbosity=0).run(tests)
    result = "error" if run.errors else "failed" if run.failures else "ok"
    if result == "ok" and (run.testsRun != 1 or run.skipped):
        result = "error"
    print(f"\n{result}", flush=True)
    # The suite's receiving threads may still wait for a socket.
    os._exit(0)


def alone(arguments, name, test):
    """Result of one test in a process of its own, and what it printed."""
    command = [sys.executable, __file__, str(arguments.folder), arguments.host, str(arguments.port), "--one", name, test]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        printed, _ = child.communicate(timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        child.kill()
        return "timeout", child.communicate()[0].splitlines()
    lines = printed.splitlines()
    if child.returncode != 0 or not lines or lines[-1] not in ("ok", "failed", "error"):
        return "error", lines
    return lines[-1], lines[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds for one test ({LIMIT})")
    parser.add_argument("--only", action="append", help="a test's name; may be repeated")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.folder, arguments.host, arguments.port, *arguments.one)
    missing = [name for name in SUITES if not (arguments.folder / f"{name}.py").is_file()]
    if missing:
        parser.error(f"no {missing[0]}.py in {arguments.folder}: give the folder 'interoperability' of a checkout of paho.mqtt.testing")
    tests = [(name, test) for name in SUITES for test in names(suite(arguments.folder, name))]
    unknown = set(arguments.only or ()) - {test for _, test in tests}
    if unknown:
        parser.error(f"no test {unknown.pop()} in {arguments.folder}")
    bad = 0
    for name, test in tests:
        if arguments.only and test not in arguments.only:
            continue
        result, printed = alone(arguments, name, test)
        line = {"suite": name, "test": test, "result": result}
        if result != "ok":
            bad += 1
            line["said"] = [text for text in printed if text.strip()][-SHOWN:]
        print(json.dumps(line), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
