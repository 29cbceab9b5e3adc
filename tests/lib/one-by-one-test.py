#!/usr/bin/env python3
"""Checks one-by-one.py with a test program that is none: a script which lists tests and passes, fails or hangs as their names say."""

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import textwrap
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("one_by_one", os.path.join(HERE, "one-by-one.py"))
one_by_one = importlib.util.module_from_spec(spec)
spec.loader.exec_module(one_by_one)

# Seconds; the script needs a few hundredths to pass, and hangs for good where it is to hang.
LIMIT = 3
# Its first argument is a folder: in it lies the list of tests, and a file for each start of one.
PROGRAM = textwrap.dedent(
    """
    import os, signal, subprocess, sys
    folder, arguments = sys.argv[1], sys.argv[2:]
    if "--list" in arguments:
        for name in open(os.path.join(folder, "tests")).read().split():
            if "--ignored" not in arguments or name.startswith("ignored"):
                print(name + ": test")
        sys.exit()
    name = arguments[arguments.index("--exact") + 1]
    starts = sum(f.startswith(name + "@") for f in os.listdir(folder))
    open(os.path.join(folder, f"{name}@{starts}"), "x").close()
    kind = name.rstrip("0123456789")
    if kind == "always_stuck" or kind == "stuck_once" and starts == 0:
        signal.pause()
    if kind == "fails":
        sys.exit("test result: FAILED. 0 passed; 1 failed; 0 ignored")
    if kind == "leaves":
        subprocess.Popen(["sleep", "600"])
    print("test result: ok. %d passed; 0 failed; 0 ignored" % (kind != "unknown"))
    """
)


class OneByOne(unittest.TestCase):
    def run_tests(self, *names):
        """Answers the status, what was printed, and how often each test was started."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "tests"), "w") as file:
                file.write("\n".join(names))
            run = one_by_one.Run([sys.executable, "-c", PROGRAM, folder], LIMIT)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                status = run.all([])
            starts = {name: sum(f.startswith(name + "@") for f in os.listdir(folder)) for name in names}
        return status, printed.getvalue(), starts

    def test_what_passes_is_started_once(self):
        status, printed, starts = self.run_tests("good1", "good2", "ignored1")
        self.assertEqual(status, 0, printed)
        self.assertEqual(starts, {"good1": 1, "good2": 1, "ignored1": 0})
        self.assertIn("| 0 of 2 emulator processes were stuck and were started again\n", printed)
        self.assertIn("test result: ok. 2 passed; 0 failed; 1 ignored; 0 never run", printed)

    def test_what_fails_is_not_started_again(self):
        status, printed, starts = self.run_tests("good1", "fails1", "unknown1")
        self.assertEqual(status, 1, printed)
        self.assertEqual(starts, {"good1": 1, "fails1": 1, "unknown1": 1})
        self.assertIn("| failed: fails1\n", printed)
        self.assertIn("| failed: unknown1\n", printed)
        self.assertIn("| 0 of 3 emulator processes", printed)

    def test_what_is_stuck_once_is_started_again_and_said(self):
        status, printed, starts = self.run_tests("stuck_once1", "good1")
        self.assertEqual(status, 0, printed)
        self.assertEqual(starts, {"stuck_once1": 2, "good1": 1})
        said = re.findall(r"^\| stuck for 3 s, started again: stuck_once1: process \d+: S in \S+$", printed, re.M)
        self.assertEqual(len(said), 1, printed)
        self.assertIn("| 1 of 3 emulator processes were stuck and were started again\n", printed)

    def test_what_is_stuck_twice_has_failed(self):
        status, printed, starts = self.run_tests("always_stuck1")
        self.assertEqual((status, starts), (1, {"always_stuck1": 2}), printed)
        self.assertIn("test always_stuck1 ... FAILED\nstuck: not done after 3 s\n", printed)
        self.assertIn("| failed: always_stuck1\n", printed)

    def test_more_than_three_stuck_ones_fail_the_run(self):
        names = [f"stuck_once{n}" for n in range(5)]
        status, printed, starts = self.run_tests(*names)
        self.assertEqual(status, 1, printed)
        self.assertEqual(sum(starts.values()), 5 + one_by_one.RESTARTS_MAX)
        self.assertIn("3 passed; 2 failed;", printed)
        self.assertIn("| 3 of 8 emulator processes were stuck and were started again\n", printed)

    def test_a_process_that_ended_is_not_stuck(self):
        status, printed, starts = self.run_tests("leaves1")
        self.assertEqual((status, starts), (1, {"leaves1": 1}), printed)
        self.assertIn("ended, but something that it started was not done", printed)


if __name__ == "__main__":
    unittest.main(verbosity=0)
