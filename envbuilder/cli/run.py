"""`envbuilder run`: serve a built image on this machine until interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from envbuilder import stages
from envbuilder.cli.common import Invocation, engine_option, verb
from envbuilder.errors import ServingFailedError, Source

if TYPE_CHECKING:
    from envbuilder.choices import EngineName


@verb("run")
@click.argument("image")
@click.option("-p", "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="On 127.0.0.1.")
@engine_option
def command(invocation: Invocation, image: str, port: int, engine: EngineName | None) -> NoReturn:
    """Serve IMAGE on 127.0.0.1, with the engine that has it, until it is interrupted."""
    with stages.run(image, engine=engine or "auto", port=port, machine=invocation.machine) as running:
        invocation.say(f"serving at {running.url} (POST {running.url}/invocations); Ctrl-C ends it")
        invocation.data({"url": running.url}, running.url)
        code = running.wait()
    raise ServingFailedError(
        f"the server ended by itself with exit code {code}",
        where=Source(file=image),
        fix="read its log above; the same image can be tried with `envbuilder build … --rebuild`",
    )
