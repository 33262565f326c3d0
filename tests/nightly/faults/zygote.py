"""A process that has imported everything and computed nothing, and forks for each command.

It reads a JSON object a line: `{"number", "files", "arguments", "faults"}` starts a command, and
`{"wait": number}` answers with its exit code, negative for a signal. `{"poll": number}` answers
with the same or, while the command runs, with null.
"""

import json
import os
import sys
import traceback

from faults.injected import inject
from keras_srt.cli import main as cli


def run(files, arguments, faults):
    """What a fork does; it never returns."""
    for descriptor, name in ((1, "out"), (2, "err")):
        opened = os.open(f"{files}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
    code = 99
    try:
        inject(**faults)
        sys.argv = ["train.py", *arguments]
        code = cli.main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    children = {}
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(children.pop(job["wait"]), 0)
            answer = os.waitstatus_to_exitcode(status)
        elif "poll" in job:
            ended, status = os.waitpid(children[job["poll"]], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if answer == 0:
                run(job["files"], job["arguments"], job["faults"])
            children[job["number"]] = answer
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
