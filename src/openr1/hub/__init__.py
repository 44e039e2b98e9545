"""Publishing: the folder that would go to the Hub, with its card, its provenance and a scan of every file in it.

`publish_folder` writes that folder and sends nothing. Everything in a card comes from the stages' manifests.
"""

from __future__ import annotations

from openr1.hub.publish import PublishFile, PublishPlan, publish_folder

__all__ = ["PublishFile", "PublishPlan", "publish_folder"]
