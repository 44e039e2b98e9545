"""A vLLM plugin, loaded in every process of vLLM: matrix products on the CPU without oneDNN.

With it vLLM 0.32 keeps a copy of the weights in oneDNN's layout. A reload of the weights does not renew the one of an
LM head that is tied to the embedding: log-probabilities are then off by more than one, in silence.
"""

from __future__ import annotations


def register() -> None:
    import vllm._custom_ops as ops

    ops._supports_onednn = False
