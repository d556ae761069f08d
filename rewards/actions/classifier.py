"""The action classifier of Action2Motion (Guo et al. 2020), by which motions of HumanAct12 are evaluated.

A recurrent network reads joint positions frame by frame; what it holds at the last frame gives 30 features, on which
FID is measured, and 12 logits. The public code begins from random numbers at every call, so that the features of one
motion differ from call to call; here it begins from zeros unless a first state is given.

Names of modules are those of the public file `humanact12_gru.tar`. Legend: B motions, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from motions.base.errors import UserError
from rewards.retrieval_files import describe_state, read_document, require_tensors

NUM_JOINTS = 24
ACTIONS = (
    *("warm_up", "walk", "run", "jump", "drink", "lift_dumbbell"),
    *("sit", "eat", "turn steering wheel", "phone", "boxing", "throw"),
)
"""The 12 classes of HumanAct12, in the order of their numbers."""
_WIDTH, _NUM_LAYERS, _NUM_FEATURES = 128, 2, 30


class ActionClassifier(nn.Module):
    """Features and logits of motions.

    Example:
        features, logits = load_action_classifier("humanact12_gru.tar")(joints, lengths)
    """

    def __init__(self, num_actions: int = len(ACTIONS)) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3 * NUM_JOINTS, _WIDTH, _NUM_LAYERS)
        self.linear1 = nn.Linear(_WIDTH, _NUM_FEATURES)
        self.linear2 = nn.Linear(_NUM_FEATURES, num_actions)

    def forward(self, joints: Tensor, lengths: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features [B, 30] and logits [B, classes].

        Args:
            joints: positions [B, 24, 3, T] in metres, relative to the root's place in the first frame.
            lengths: valid frames [B] int64; the features are those of the last one.
            first: state [2, B, 128] before the first frame; zeros if it is None.

        Raises:
            ValueError: another shape, or a length outside 1..T.
        """
        if joints.ndim != 4 or joints.shape[1:3] != (NUM_JOINTS, 3):
            raise ValueError(f"joints have shape {tuple(joints.shape)}; expected [B, {NUM_JOINTS}, 3, T]")
        if lengths.shape != joints.shape[:1] or int(lengths.min()) < 1 or int(lengths.max()) > joints.shape[3]:
            raise ValueError(f"lengths are {lengths.tolist()}; legal are {len(joints)} of 1..{joints.shape[3]}")
        states, _ = self.recurrent(joints.flatten(1, 2).permute(2, 0, 1), first)
        last = states[lengths - 1, torch.arange(len(joints), device=joints.device)]
        features = torch.tanh(self.linear1(last))
        return features, self.linear2(features)


class ActionFileError(UserError):
    """A file is not the action classifier; the message names it and what is wrong."""


def load_action_classifier(path: str | Path) -> ActionClassifier:
    """The classifier of a file: `humanact12_gru.tar` of MDM, `action_recognition_model_humanact12.tar` of
    Action2Motion, or a bare state dict; in eval mode, on the CPU.

    Raises:
        ActionFileError: no such file, or it holds something else.
    """
    path = Path(path)
    document = read_document(path, "action classifier", ActionFileError)
    state = document.get("model", document)
    expected = ActionClassifier().state_dict()
    if not isinstance(state, Mapping) or not {"recurrent.weight_ih_l0", "linear2.weight"} <= state.keys():
        kind = describe_state(state) if isinstance(state, Mapping) else type(state).__name__
        raise ActionFileError(
            f"action classifier {path}: is a {kind}; it has tensors recurrent.*, linear1.*, linear2.*"
        )
    require_tensors(state, f"action classifier {path}", ActionFileError)
    classes = len(state["linear2.weight"])
    expected = ActionClassifier(classes).state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    )
    if wrong:
        raise ActionFileError(f"action classifier {path}: missing, unexpected or of another shape: {', '.join(wrong)}")
    classifier = ActionClassifier(classes)
    classifier.load_state_dict(dict(state))
    return classifier.eval().requires_grad_(False)
