#!/usr/bin/env python3
"""Runs a fireside of schema version 2 and writes the rows of its database as SQL: `make.py PROGRAM > version-2.sql`.

The conversations have branches, titles, a system prompt, attached files, thinking, an answer that was cut off when the program
was killed, and one whose end was left in a file beside the database. The table definitions are not in the output: they are
src/history/migrations/001.sql and 002.sql, which never change.
"""

import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(sys.argv[1])
HOME = pathlib.Path(tempfile.mkdtemp())
FOLDER = HOME / ".local/share/fireside"
DATABASE = FOLDER / "conversations.db"


def start(answers, *arguments):
    (HOME / "answers").write_text(answers)
    command = [PROGRAM, "--backend", "script:answers", *arguments]
    clean = {"HOME": str(HOME), "PATH": os.environ["PATH"]}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return subprocess.Popen(command, cwd=HOME, env=clean, **pipes)


def run(answers, lines, *arguments):
    program = start(answers, *arguments)
    program.communicate(lines)
    assert program.returncode == 0, (arguments, program.returncode)


def wait_for(condition):
    while not condition():
        time.sleep(0.05)


def chat(answers, lines, *arguments):
    run(answers, lines, "--repl-stdin", "--keep", *arguments)


def count(query, *values):
    with sqlite3.connect(DATABASE) as database:
        return database.execute(query, values).fetchone()[0]


def kill(program):
    program.send_signal(signal.SIGKILL)
    program.wait()


def cut_off():
    """An answer is being written when the program is killed."""
    program = start("The beginning of a " + r"\plong" * 400 + "\n", "--repl-stdin", "--keep", "--title", "Cut off")
    program.stdin.write("Write something long\n")
    program.stdin.flush()
    wait_for(lambda: count("select count(*) from message where text like 'The beginning%'"))
    kill(program)


def left_beside():
    """Another program holds the database, so what is said goes into a file beside it; then the program is killed."""
    chat("before\n", "Before the lock\n", "--title", "Left beside")
    holder = sqlite3.connect(DATABASE, isolation_level=None)
    holder.execute("begin immediate")
    program = start("after\n", "--repl-stdin", "--continue")
    program.stdin.write("After the lock\n")
    program.stdin.flush()
    beside = lambda: [path for path in FOLDER.glob("conversations.db.aside-*")]
    wait_for(lambda: beside() and b'"stop":"end"' in beside()[0].read_bytes())
    kill(program)
    holder.execute("rollback")
    return beside()[0].read_text()


def main():
    (HOME / "notes.txt").write_text("Buy milk.\nFeed the cat.\n")
    chat("Because of scattering.\nBlue light bends most.\nYou are welcome.\n",
         "Why is the sky blue?\n/retry\nThanks\n/undo\n", "--title", "Colours", "--system-prompt", "Be brief.",
         "--seed", "7")
    chat("<think>Milk comes first.</think>Milk, then the cat.\nOnly the cat.\n",
         "/file notes.txt\nWhat is to do?\nAnd without milk?\n/edit 1\n", "--temp", "0.3")
    chat("one\\ntwo 🔥\n", "Grüße, \"quoted\"\n")
    run("secret\n", "Nobody keeps this\n", "--repl-stdin", "--incognito")
    run("A summary.\n", "A long text.", "-p", "Summarise", "--keep")
    cut_off()
    beside = left_beside()
    with sqlite3.connect(DATABASE) as database:
        for table, columns in [
            ("conversation", "id, title, created, changed, system, model, interactive, head, sum"),
            ("message", "number, conversation, parent, role, text, attachments, created, answer, sum"),
        ]:
            if table == "conversation":
                print("begin;")
            quoted = " || ', ' || ".join(f"quote({column.strip()})" for column in columns.split(","))
            order = {"conversation": "created, id", "message": "number"}[table]
            for (row,) in database.execute(f"select {quoted} from {table} order by {order}"):
                print(f"insert into {table} ({columns}) values ({row});")
        print("commit;")
    for line in beside.splitlines():
        print("-- beside:", line)


main()
