"""The scripts that activate an environment in a shell, and the words that call them. Pure.

They set no more than conda and venv do: PATH, the variable that names the environment, and for conda what the
packages' own scripts set.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbuilder.prefix_layout import META

if TYPE_CHECKING:
    from envbuilder.prefix_layout import PrefixLayout

_SH = """\
# For sh, bash and zsh: `. {place}`; `deactivate` ends it.
if [ -n "${{VIRTUAL_ENV-}}" ] && command -v deactivate >/dev/null 2>&1; then deactivate; fi
deactivate () {{
    PATH="$_ENVBUILDER_PATH"
    export PATH
    unset {variable} _ENVBUILDER_PATH
    unset -f deactivate
}}
_ENVBUILDER_PATH="$PATH"
{variable}={prefix}
PATH="${variable}/bin:$PATH"
export PATH {variable}
unset PYTHONHOME
"""
_SH_CONDA = """\
for _envbuilder_script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
    if [ -r "$_envbuilder_script" ]; then . "$_envbuilder_script"; fi
done
unset _envbuilder_script
"""
_FISH = """\
# For fish: `source {place}`; `deactivate` ends it.
set -gx _ENVBUILDER_PATH $PATH
set -gx {variable} {prefix}
set -gx PATH {prefix}/bin $PATH
set -e PYTHONHOME
function deactivate
    set -gx PATH $_ENVBUILDER_PATH
    set -e _ENVBUILDER_PATH
    set -e {variable}
    functions -e deactivate
end
"""
_FISH_CONDA = """\
for script in {prefix}/etc/conda/activate.d/*.fish
    source $script
end
"""
_CMD = """\
@rem For cmd: {place}
@set "{variable}={prefix}"
@set "PATH={folders};%PATH%"
@set PYTHONHOME=
"""
_CMD_CONDA = """\
@set "_SCRIPTS=%CONDA_PREFIX%\\etc\\conda\\activate.d"
@if exist "%_SCRIPTS%" for %%s in ("%_SCRIPTS%\\*.bat") do @call "%%s"
@set _SCRIPTS=
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationScript:
    """A script for one shell."""

    language: str
    """`sh`, `fish` or `cmd`."""

    path: str
    """In the prefix."""

    content: bytes
    command: str
    """What a user of that shell types."""


def scripts(layout: PrefixLayout) -> tuple[ActivationScript, ...]:
    """Return the scripts of an environment."""
    # Packages may have an `activate` of their own: conda has.
    folder = META if layout.has_conda else layout.scripts
    if layout.system == "win":
        return (_cmd(layout, folder),)
    place = f"{layout.prefix}/{folder}/activate"
    values = {"variable": "CONDA_PREFIX" if layout.has_conda else "VIRTUAL_ENV"}
    sh = _SH.format(place=shlex.quote(place), prefix=shlex.quote(layout.prefix), **values)
    fish_place, fish_prefix = _fish(f"{place}.fish"), _fish(layout.prefix)
    fish = _FISH.format(place=fish_place, prefix=fish_prefix, **values)
    if layout.has_conda:
        sh += _SH_CONDA
        fish += _FISH_CONDA.format(prefix=fish_prefix)
    return (
        ActivationScript(
            language="sh", path=f"{folder}/activate", content=sh.encode(), command=f". {shlex.quote(place)}"
        ),
        ActivationScript(
            language="fish", path=f"{folder}/activate.fish", content=fish.encode(), command=f"source {fish_place}"
        ),
    )


def _cmd(layout: PrefixLayout, folder: str) -> ActivationScript:
    place = f"{layout.prefix}\\{folder}\\activate.bat"
    below: tuple[str, ...] = ("\\Scripts",)
    if layout.has_conda:
        below = ("", "\\Library\\mingw-w64\\bin", "\\Library\\usr\\bin", "\\Library\\bin", "\\Scripts", "\\bin")
    text = _CMD.format(
        # A percent sign begins a variable in a batch file.
        place=place.replace("%", "%%"),
        prefix=layout.prefix.replace("%", "%%"),
        variable="CONDA_PREFIX" if layout.has_conda else "VIRTUAL_ENV",
        folders=";".join(f"{layout.prefix}{one}".replace("%", "%%") for one in below),
    )
    if layout.has_conda:
        text += _CMD_CONDA
    return ActivationScript(
        language="cmd",
        path=f"{folder}/activate.bat",
        content=text.replace("\n", "\r\n").encode(),
        command=f'"{place}"',
    )


def _fish(text: str) -> str:
    """Write one word of fish, in whose single quotes the backslash counts."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
