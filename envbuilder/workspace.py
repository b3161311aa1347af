"""The workspace folder on disk: its envbuilder.yaml, its environments, and which of them a model gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envbuilder import environment_file, gpu_needs, template_files
from envbuilder.environment_catalog import EnvironmentCatalog
from envbuilder.environment_reference import EnvironmentReference
from envbuilder.environment_spec import Overridden
from envbuilder.environment_yaml import Environment
from envbuilder.errors import InvalidFileError, Source
from envbuilder.gpu_needs import GpuTable
from envbuilder.override import Override
from envbuilder.problems import shown
from envbuilder.resolution import own_python
from envbuilder.template_set import FOLDER, SUFFIX, TemplateSet
from envbuilder.workspace_yaml import FILE, WorkspaceYaml

if TYPE_CHECKING:
    from envbuilder.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace folder."""

    directory: Path
    says: WorkspaceYaml

    @classmethod
    def read(cls, directory: Path) -> Workspace:
        """Read the folder's envbuilder.yaml, which may be absent; raise `InvalidFileError` with all its problems."""
        if not directory.is_dir():
            raise InvalidFileError(
                "no such workspace",
                where=Source(file=str(directory)),
                fix="give a folder, with `envbuilder.yaml` in it",
            )
        file = directory / FILE
        says = (
            WorkspaceYaml.parse(environment_file.read_text(file), file=str(file)) if file.exists() else WorkspaceYaml()
        )
        return cls(directory=directory, says=says)

    @property
    def catalog(self) -> EnvironmentCatalog:
        """The registered environments."""
        return EnvironmentCatalog(workspace=self.directory, says=self.says)

    @property
    def templates(self) -> TemplateSet:
        """The templates of the Dockerfile that stand in place of envbuilder's own."""
        folder = self.directory / FOLDER
        if not folder.is_dir():
            return TemplateSet()
        texts = {path.name: _text(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}
        return TemplateSet.of(texts, folder=str(folder), known=template_files.names())

    @property
    def gpu_table(self) -> GpuTable:
        """What is known of GPUs, with what the workspace adds."""
        file = self.directory / gpu_needs.FILE
        known = gpu_needs.load()
        return known.with_more(GpuTable.parse(_text(file), file=str(file))) if file.exists() else known

    @property
    def variables(self) -> dict[str, str]:
        """The workspace's defaults as the environment variables that win over them."""
        defaults = self.says.defaults
        ca_file = defaults.ca_file
        found = {
            "ENVBUILDER_INDEX_URL": defaults.index_url.address if defaults.index_url is not None else "",
            "ENVBUILDER_EXTRA_INDEX_URLS": " ".join(one.address for one in defaults.extra_index_urls),
            "ENVBUILDER_FIND_LINKS": " ".join(one.address for one in defaults.find_links),
            "ENVBUILDER_KEYRING": defaults.keyring.value if defaults.keyring is not None else "",
            "ENVBUILDER_PROXY": defaults.proxy.raw if defaults.proxy is not None else "",
            "ENVBUILDER_NO_PROXY": ",".join(defaults.no_proxy),
            "ENVBUILDER_CHANNEL_ALIAS": defaults.channel_alias.raw if defaults.channel_alias is not None else "",
            "ENVBUILDER_CHANNEL_MIRRORS": " ".join(f"{of.raw}={by.raw}" for of, by in defaults.channel_mirrors),
            "ENVBUILDER_CA_FILE": "",
        }
        if ca_file is not None:
            path = self.directory / ca_file.value
            if not environment_file.is_file(path):
                raise InvalidFileError(
                    f"`{shown(ca_file.value)}` does not exist",
                    where=ca_file.source,
                    fix="name a PEM file, or remove it",
                )
            found["ENVBUILDER_CA_FILE"] = str(path.absolute())
        return {name: value for name, value in found.items() if value}

    def override(self, model: Model, chosen: str | None, *, source: Source) -> Override | None:
        """Return what is put over the model's environment: `chosen` for this build, else what the first rule gives."""
        rules = self.says.rules
        python = own_python(model) if any(rule.python is not None for rule in rules) else None
        matching = (
            rule for rule in rules if rule.matches(name=model.name, flavors=model.mlmodel.flavors, python=python)
        )
        rule = next(matching, None)
        if chosen is None:
            if rule is None:
                return None
            found = self._of_rule(rule.environment)
            return Override(environment=found, reference=found.reference, source=rule.source)
        environment = self._chosen(chosen, source)
        lost: tuple[Overridden, ...] = ()
        if rule is not None:
            value = str(rule.environment) if isinstance(rule.environment, EnvironmentReference) else "an inline one"
            reason = "another environment was chosen for this build"
            lost = (Overridden(field="environment", value=value, source=rule.source, reason=reason, by=source),)
        return Override(environment=environment, reference=environment.reference, source=source, overridden=lost)

    def _of_rule(self, given: EnvironmentReference | Environment) -> Environment:
        if isinstance(given, Environment):
            return environment_file.complete(given, self.directory)
        if given.path is not None:
            return environment_file.read(self.directory / given.path, source=given.source)
        return self.catalog.find(given)

    def _chosen(self, text: str, source: Source) -> Environment:
        if text.lstrip().startswith("{"):
            return environment_file.complete(Environment.parse(text, file=source.file), Path())
        return self.catalog.find(EnvironmentReference.parse(text, source=source))


def _text(path: Path) -> str:
    try:
        return environment_file.read_text(path).decode()
    except UnicodeDecodeError as cause:
        raise InvalidFileError("not UTF-8 text", where=Source(file=str(path)), fix="save it as UTF-8") from cause
