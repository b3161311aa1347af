"""Calls a build backend (PEP 517); started as a script by the Python of the base image, cut off from everything.

Standard library only, Python 3.7 and later. argv[1] is a JSON object:
  source    the project's directory, absolute; output: where the wheel goes
  backend   `module:object`; path: directories of the project that it is imported from
  known     the requirement lines that are installed
Leaves in `output` either `requires.json` (a list of requirement lines that are missing) or the wheel and
`wheel.json` (its name). Each hook runs in a process of its own, as PEP 517 recommends.
"""

import importlib
import json
import os
import resource
import sys
import traceback

LIMITS = ((resource.RLIMIT_FSIZE, 4 << 30), (resource.RLIMIT_NPROC, 4096), (resource.RLIMIT_CORE, 0))
LONGEST_ANSWER = 1 << 20


def backend(task):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103 - runs on old Pythons
    places = [os.path.join(task["source"], path) for path in task["path"]]  # noqa: PTH118
    sys.path[:0] = places
    name, _, attribute = task["backend"].partition(":")
    found = importlib.import_module(name)
    file = os.path.realpath(getattr(found, "__file__", None) or "/")
    if places and not any(file.startswith(os.path.join(os.path.realpath(place), "")) for place in places):  # noqa: PTH118
        sys.exit("the backend `%s` does not come from its backend-path" % name)  # noqa: UP031
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found


def call(task, hook, arguments, default):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D103
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            os.chdir(task["source"])
            function = getattr(backend(task), hook, None)  # type: ignore[no-untyped-call]
            answer = default if function is None else function(*arguments)
            os.write(writing, json.dumps(answer).encode())
            code = 0
        except SystemExit as leaving:
            print(leaving.code, file=sys.stderr)  # noqa: T201 - the log of the build
        except BaseException:  # noqa: BLE001 - whatever the backend raises
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read(LONGEST_ANSWER)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
    return json.loads(answer.decode())


def main():  # type: ignore[no-untyped-def]  # noqa: ANN201, D103
    os.dup2(2, 1)
    os.umask(0o022)
    for kind, wanted in LIMITS:
        highest = resource.getrlimit(kind)[1]
        limit = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
        resource.setrlimit(kind, (limit, limit))
    # With `-c` Python looks into the working directory first.
    sys.path[:] = [path for path in sys.path if path]
    task = json.loads(sys.argv[1])
    output = task["output"]
    asked = call(task, "get_requires_for_build_wheel", (), [])  # type: ignore[no-untyped-call]
    missing = sorted(set(asked) - set(task["known"]))
    if missing:
        result, answer = "requires.json", missing
    else:
        result, answer = "wheel.json", call(task, "build_wheel", (output,), None)  # type: ignore[no-untyped-call]
    with open(os.path.join(output, result), "w") as stream:  # noqa: PTH118, PTH123
        json.dump(answer, stream)


if __name__ == "__main__":
    main()  # type: ignore[no-untyped-call]
