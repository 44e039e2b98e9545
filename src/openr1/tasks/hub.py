"""Questions from a dataset of the Hugging Face Hub, or from a folder of data files, through `datasets`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from openr1.errors import OutsideError, UserError, transport_errors
from openr1.tasks.rows import Source
from openr1.tasks.settings import HubSettings

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_revision(settings: HubSettings) -> str | None:
    """The commit that `revision` stands for now; None for a folder. A full commit is not looked up.

    Raises:
        UserError: no such dataset or revision, or no access to it.
        OutsideError: the Hub does not answer.
    """
    if Path(settings.id).is_dir():
        return None
    if settings.revision is not None and _COMMIT.fullmatch(settings.revision):
        return settings.revision
    from huggingface_hub import HfApi

    def ask() -> str | None:
        return HfApi().dataset_info(settings.id, revision=settings.revision, timeout=30).sha

    return _outside(settings, ask)


def download(settings: HubSettings, files: list[str]) -> Path:
    """The folder in the Hub's cache that holds the files of a dataset (patterns) at a commit, whose name it has."""
    from huggingface_hub import snapshot_download

    def ask() -> str:
        at = settings.revision
        return snapshot_download(settings.id, repo_type="dataset", revision=at, allow_patterns=files)

    return Path(_outside(settings, ask))


def open_hub(settings: HubSettings, wanted: list[str | None]) -> dict[str | None, Source]:
    """The rows of every wanted split (None: the only one of the dataset, or `settings.split`)."""
    import datasets

    commit = resolve_revision(settings)
    at: dict[str, Any] = {"revision": commit} if commit else {}
    sources: dict[str | None, Source] = {}
    for name in wanted:
        split = name or settings.split or _only_split(settings, commit)

        def load(split: str = split) -> Any:
            return datasets.load_dataset(settings.id, settings.config, split=split, **at)

        data = _outside(settings, load)
        where = f"{settings.id}{f'/{settings.config}' if settings.config else ''} ({split})"
        if not len(data):
            raise UserError(f"{where}: holds no rows; choose another split")
        identity = {"dataset": settings.id, "config": settings.config, "split": split, "revision": commit}
        sources[name] = Source(where=where, columns=list(data.column_names), rows=data, identity=identity)
    return sources


def _only_split(settings: HubSettings, commit: str | None) -> str:
    import datasets

    def ask() -> list[str]:
        return list(datasets.get_dataset_split_names(settings.id, settings.config, revision=commit))

    names: list[str] = _outside(settings, ask)
    if len(names) != 1:
        raise UserError(
            f"{settings.id}: has the splits {', '.join(names)}; set task.split, or source in each of the splits"
        )
    return names[0]


def _outside(settings: HubSettings, call: Any) -> Any:
    """Run `call`, turning what `datasets` and the Hub raise into one line for the person who can mend it."""
    from datasets import exceptions as data_errors
    from huggingface_hub import errors as hub_errors

    where = f"dataset {settings.id}" + (f" at {settings.revision}" if settings.revision else "")
    retry = "try again, or pin task.revision to a commit that is in the cache"
    down: tuple[type[Exception], ...] = (
        hub_errors.OfflineModeIsEnabled, hub_errors.LocalEntryNotFoundError, ConnectionError, *transport_errors(),
    )  # fmt: skip
    try:
        return call()
    except hub_errors.GatedRepoError as e:
        raise UserError(f"{where}: is gated; ask for access on its page, then `hf auth login`") from e
    except hub_errors.RevisionNotFoundError as e:
        raise UserError(f"{where}: the dataset has no such revision; mend task.revision") from e
    except (hub_errors.RepositoryNotFoundError, data_errors.DatasetNotFoundError) as e:
        raise UserError(f"{where}: no such dataset on the Hub, or it is private; mend task.id, or log in") from e
    except hub_errors.HFValidationError as e:
        raise UserError(f"{where}: not a dataset id or an existing folder; write OWNER/NAME") from e
    except down as e:
        raise OutsideError(f"{where}: the Hub does not answer ({_line(e)}); {retry}") from e
    except hub_errors.HfHubHTTPError as e:
        status = getattr(e.response, "status_code", 0)
        if 400 <= status < 500 and status != 429:
            raise UserError(f"{where}: the Hub refuses ({_line(e)}); mend task.id or log in") from e
        raise OutsideError(f"{where}: the Hub fails ({_line(e)}); {retry}") from e
    except data_errors.DatasetGenerationError as e:
        raise UserError(f"{where}: its files cannot be read: {_line(e.__cause__ or e)}") from e
    except (data_errors.DatasetsError, FileNotFoundError, ValueError) as e:
        raise UserError(f"{where}: {_line(e)}; mend task.id, config, split or source") from e
    except OSError as e:
        raise OutsideError(f"{where}: {_line(e)}; {retry}") from e


def _line(error: BaseException) -> str:
    """The first words of an error on one line."""
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
