"""Publishing: a dataset or a model with its card and its provenance, scanned before anything leaves.

`publish_folder` writes the folder that would go to the Hub and sends nothing; `publish` sends it, as one commit on
what is there, and reads it back. Everything in a card comes from the stages' manifests.
"""

from __future__ import annotations

from openr1.hub.publish import PublishFile, PublishPlan, publish_folder
from openr1.hub.settings import Publication
from openr1.hub.upload import Published, publish

__all__ = ["Publication", "PublishFile", "PublishPlan", "Published", "publish", "publish_folder"]
