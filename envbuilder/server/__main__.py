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
    predict = commands.add_parser("predict", help="answer the request on stdin, on stdout")
    predict.add_argument("--content-type", default="application/json")
    attempt = commands.add_parser("try", help="serve the model once and report, as one line of JSON")
    attempt.add_argument("--example", type=Path, default=DEFAULT_EXAMPLE, metavar="FILE")
    attempt.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    return parser


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
