"""MDM that makes motions for actions: its condition is a row of a learned table and not a text.

An action is given as a one-hot vector in place of a text's embedding, and the table as the weight of the projection
that texts have, so that everything else is an MDM's. Files have MDM's name of the table,
`embed_action.action_embedding` [actions, latent].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rollouts.networks.mdm import MDM
from rollouts.networks.mdm_config import MDMConfig
from rollouts.networks.mdm_naming import StateDictError

_TABLE = "embed_action.action_embedding"


class ActionMDM(MDM):
    """See the module. The bias of the projection, which the table does not have, stays 0."""

    file_kind = "an MDM that is labelled with actions, not with text"

    def __init__(self, config: MDMConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            self.embed_text.weight.normal_(generator=generator)
            self.embed_text.bias.zero_()
        self.embed_text.bias.requires_grad_(False)

    @classmethod
    def from_file(cls, state: Mapping[str, Tensor], args: Mapping[str, Any]) -> ActionMDM:
        """See the base class.

        Raises:
            StateDictError: there is no table of actions.
        """
        if _TABLE not in state:
            raise StateDictError(f"{_TABLE} is missing: it is no MDM that is labelled with actions")
        table = state[_TABLE]
        rest = {name: value for name, value in state.items() if name != _TABLE}
        known = {"embed_text.weight": table.T, "embed_text.bias": table.new_zeros(table.shape[1])}
        network = super().from_file(rest | known, {**args, "text_dim": table.shape[0]})
        assert isinstance(network, ActionMDM)
        return network

    def to_file(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """See the base class."""
        state = super().to_file(weights)
        table = state.pop("embed_text.weight").T.contiguous()
        del state["embed_text.bias"]
        return state | {_TABLE: table}
