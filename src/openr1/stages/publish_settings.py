"""Settings of the stage that publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from openr1.hub.settings import DATASET_KINDS, Publication, RepoType
from openr1.stages.base_settings import InputSpec, StageSettings, reads


class PublishStage(StageSettings):
    """Send a dataset or a model of the run to the Hub, as `openr1 publish` does; off until `repo` is named.

    Its inputs, by whatever names, are what goes: the sets of one stage, or a model. Samples of evaluations do not go;
    the stage waits for them, so that they are in the model's card.

    repo: owner/name on the Hub; null: nothing is published
    prefix: stands before the names of a dataset's configs
    licence: of the whole; null: what the sources ask for
    licences: of sources that openr1 does not know, by their ids
    public: everyone may read it
    pr: propose it as a pull request
    checkpoints: every checkpoint of the model too, each a branch checkpoint-N
    logs: the logs of the stages too
    allow_personal: go on although a list of e-mail addresses was found
    """

    INPUTS: ClassVar[dict[str, InputSpec]] = {"*": reads(*DATASET_KINDS, "model", "samples", required=False)}

    kind: Literal["publish"]
    repo: str | None = None
    prefix: str = ""
    licence: str | None = None
    licences: dict[str, str] = {}
    public: bool = False
    pr: bool = False
    checkpoints: bool = False
    logs: bool = False
    allow_personal: bool = False

    def outputs(self) -> dict[str, str]:
        return {"sent": "published"}

    def off(self, name: str) -> str | None:
        return f"off; stages.{name}.repo=OWNER/NAME has it published" if self.repo is None else None

    def publication(self, holds: Mapping[str, str]) -> Publication:
        """What `openr1 publish` would be asked; `holds` is the kind of what each input holds. `repo` has to be named.

        Raises ValueError where the inputs are not those of one publication.
        """
        goes = {name: ref for name, ref in self.inputs.items() if holds[name] != "samples"}
        kinds = {holds[name] == "model" for name in goes}
        sources = list(dict.fromkeys(ref.partition("/")[0] for ref in goes.values()))
        if not goes:
            raise ValueError("inputs: nothing to publish; connect a model, or the sets of one stage")
        if len(kinds) > 1 or len(sources) > 1:
            raise ValueError(
                f"inputs: {', '.join(goes.values())} are not one publication; connect a model, or the sets of one "
                "stage, and make a stage of each"
            )
        type: RepoType = "model" if kinds.pop() else "dataset"
        return Publication(
            self.repo or "", type, sources[0], self.prefix, self.licence, self.licences, self.public, self.pr,
            self.checkpoints, self.logs, self.allow_personal, tuple(ref.partition("/")[2] for ref in goes.values()),
        )  # fmt: skip
