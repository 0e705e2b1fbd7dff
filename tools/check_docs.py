#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of README.md and docs/*.md, so that none of them can rot.

    check_docs.py SOURCE_FOLDER MOESMITH_BINARY

Every block fenced as ```sh is run, block by block, by bash in a scratch folder that holds links to the tree's files;
outputs/ and whatever else a command makes stays there. `moesmith` is the given binary. A comment before a block changes
that:
    <!-- test: append --max-steps 2 -->   adds to each of its lines that start with moesmith train
    <!-- test: elsewhere NAME -->         is not run here: the test NAME runs it
Exits 1 naming the file, the line and the output of the first command that fails.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def blocks(path):
    note, fence, lines, first = "", False, [], 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if fence:
            if line.startswith("```"):
                yield first, note, lines
                note, fence, lines = "", False, []
            else:
                lines.append(line)
        elif line.startswith("```sh"):
            fence, first = True, number + 1
        elif found := re.match(r"<!-- test: (.*) -->$", line):
            note = found[1]
        elif line.strip():
            note = ""


def main():
    source, binary = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    ran = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for entry in source.iterdir():
            if entry.name not in ("build", "outputs", ".git"):
                (scratch / entry.name).symlink_to(entry)
        (scratch / ".bin").mkdir()
        (scratch / ".bin/moesmith").symlink_to(binary)
        env = dict(os.environ, PATH=f"{scratch / '.bin'}:{os.environ['PATH']}")
        for path in [source / "README.md", *sorted((source / "docs").glob("*.md")), source / "examples/austen/README.md"]:
            for first, note, lines in blocks(path):
                if note.startswith("elsewhere "):
                    continue
                if note.startswith("append "):
                    lines = [line + " " + note[7:] if line.startswith("moesmith train") else line for line in lines]
                elif note:
                    sys.exit(f"{path}:{first}: unknown note: {note}")
                result = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=scratch, env=env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                if result.returncode:
                    print(result.stdout)
                    sys.exit(f"{path}:{first}: exit code {result.returncode}:\n" + "\n".join(lines))
                ran += 1
    if not ran:
        sys.exit("check_docs: found no command to run")
    print(f"{ran} blocks of commands ran")


if __name__ == "__main__":
    main()
