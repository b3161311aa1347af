"""The image's entry point: `serve`, `predict` and `try`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .log_format import formatter
from .settings import InvalidSettingError, Settings

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

    from .worker_process import Failure

DEFAULT_EXAMPLE = Path("/opt/envbuilder/example.json")
OK = 200
USAGE = 2
TOO_MANY = 3
"""More rows failed than may: to try it again comes to the same."""
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettingError as error:
        return _say(f"error: {error}", USAGE)
    options = _parser(settings).parse_args(arguments)
    if options.command == "try":
        return _try(options)
    _log(settings.log_format)
    return _predict(options, settings) if options.command == "predict" else _serve(options, settings)


def _log(name: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(name))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for noisy in ("uvicorn", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="envbuilder.server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer requests over HTTP until SIGTERM")
    serve.add_argument("--host", default=settings.host)
    serve.add_argument("--port", type=int, default=settings.port, help="0 for a free one (default: %(default)s)")
    serve.add_argument("--uds", metavar="PATH", help="listen on this Unix socket instead")
    serve.add_argument("--workers", type=int, default=settings.workers, help="(default: %(default)s)")
    serve.add_argument("--failure-fd", type=int, help=argparse.SUPPRESS)
    _add_predict(commands)
    attempt = commands.add_parser("try", help="serve the model once and report, as one line of JSON")
    attempt.add_argument("--example", type=Path, default=DEFAULT_EXAMPLE, metavar="FILE")
    attempt.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    return parser


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser(
        "predict", help="predict for files, or answer the request on stdin, on stdout, where no file is named"
    )
    add = predict.add_argument
    add("--content-type", default="application/json", help="of the request on stdin (default: %(default)s)")
    add("-i", "--input", action="append", type=Path, metavar="PATH", help="a file or a folder; can be repeated")
    add("-o", "--output", type=Path, metavar="FILE", help="a .csv, .parquet or .jsonl file")
    add("--shard", metavar="INDEX/COUNT", help="predict for one of COUNT parts; COUNT alone: for JOB_COMPLETION_INDEX")
    add("--workers", type=int, default=1, help="processes with the model (default: %(default)s)")
    add("--batch-rows", type=int, default=20_000, help="rows of a mini-batch (default: %(default)s)")
    add("--batch-files", type=int, default=10, help="images of a mini-batch (default: %(default)s)")
    add("--error-threshold", type=int, default=0, help="rows that may fail, -1 for all (default: %(default)s)")
    add("--retries", type=int, default=3, help="for mini-batches whose worker ended or hung (default: %(default)s)")
    add("--timeout", type=float, default=300.0, help="seconds for a mini-batch (default: %(default)s)")
    add("--params", type=json.loads, metavar="JSON", help="parameters of the model's signature")
    add("--events", action="store_true", help="tell the progress on stdout, as lines of JSON")


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from . import runner, serving  # noqa: PLC0415 - `try` needs no HTTP server of its own

    if options.workers < 1:
        return _say(f"error: --workers is `{options.workers}`, expected at least 1", USAGE)
    settings = replace(settings, host=options.host, port=options.port, workers=options.workers)
    try:
        failure = runner.run(serving.serve(settings, os.environ, options.uds))
    except OSError as error:
        where = options.uds or f"{settings.host}:{settings.port}"
        return _say(f"error: cannot listen on {where}: {error}", 1)
    if failure is None:
        return 0
    _hand_over(failure, options.failure_fd)
    return _say("\n".join(("error: the model does not load", *(failure.trace or (failure.what,)))), 1)


def _hand_over(failure: Failure, descriptor: int | None) -> None:
    """Write the failure to the descriptor that `try` gave."""
    if descriptor is not None:
        with os.fdopen(descriptor, "w") as pipe:
            json.dump(asdict(failure), pipe)


def _predict(options: argparse.Namespace, settings: Settings) -> int:
    if options.input or options.output:
        return _predict_files(options, settings)
    from . import one_shot, runner  # noqa: PLC0415 - as above

    settings = replace(settings, workers=1, load_attempts=1)
    body = sys.stdin.buffer.read()
    try:
        answer = runner.run(one_shot.predict(settings, os.environ, options.content_type, body))
    except asyncio.CancelledError:
        return INTERRUPTED
    if answer.status != OK:
        return _say(answer.body.decode(), 1)
    sys.stdout.buffer.write(answer.body + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _predict_files(options: argparse.Namespace, settings: Settings) -> int:
    from . import batch_error, batch_progress, batch_run, runner  # noqa: PLC0415 - as above
    from .shard import InvalidShardError, Shard  # noqa: PLC0415 - as above

    least = {"workers": 1, "batch_rows": 1, "batch_files": 1, "error_threshold": -1, "retries": 0}
    problems = [
        f"--{name.replace('_', '-')} is `{getattr(options, name)}`, expected at least {limit}"
        for name, limit in least.items()
        if getattr(options, name) < limit
    ]
    if not (options.input and options.output):
        problems.append("-i and -o are both needed")
    if options.params is not None and not isinstance(options.params, dict):
        problems.append("--params is no JSON object")
    shard = Shard()
    try:
        shard = Shard.parse(options.shard, os.environ) if options.shard else shard
    except InvalidShardError as error:
        problems.append(f"--shard: {error}")
    if problems:
        return _say("\n".join(f"error: {one}" for one in problems), USAGE)
    batch = batch_run.Batch(
        inputs=tuple(options.input),
        output=options.output,
        shard=shard,
        rows=options.batch_rows,
        files=options.batch_files,
        error_threshold=options.error_threshold,
        retries=options.retries,
        params=options.params,
    )
    runner.end_with_parent()
    settings = replace(settings, workers=options.workers, load_attempts=1, request_timeout=options.timeout)
    tell = _tell_lines if options.events else batch_progress.Teller()
    try:
        summary = runner.run(batch_run.run(batch, settings, os.environ, tell))
    except asyncio.CancelledError:
        return INTERRUPTED
    except batch_error.InvalidBatchError as error:
        return _say(f"error: {error}", USAGE)
    except batch_error.TooManyFailuresError as error:
        return _say(f"error: {error}", TOO_MANY)
    except batch_error.BatchFailedError as error:
        return _say(f"error: {error}", 1)
    _tell_lines({"event": "done", **summary} if options.events else summary)
    return 0


def _tell_lines(event: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _try(options: argparse.Namespace) -> int:
    from . import trial  # noqa: PLC0415 - as above

    signal.signal(signal.SIGTERM, _interrupted)  # PID 1 has no default for it
    report = trial.attempt(options.example, os.environ, options.timeout)
    sys.stdout.write(report.to_text() + "\n")
    sys.stdout.flush()
    return 0 if report.passed else 1


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(INTERRUPTED)


def _say(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
