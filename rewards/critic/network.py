"""The critic network of MotionCritic (Wang et al. 2025): a score for how natural a motion looks.

The encoder is the dual-stream transformer of MotionBERT (Zhu et al. 2023): in each layer one stream attends over the
joints of a frame and then over the frames of a joint, a parallel one in the other order, and learned shares mix the
two. Its features are averaged over the frames, and a perceptron makes one number of them; higher is better. Modules
have the names of the public project's checkpoints, so that its state dicts are these.

Legend: B clips, T frames, J = 25 rows (24 joints and the root's translation, see `rewards.critic.poses`), C width of
the encoder, R width of its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rewards.critic.inputs import INPUT_WIDTH, InputKind, movement
from rollouts.networks.attention import attend

NUM_ROWS = 25
"""Rows of a frame: 24 joints of SMPL and the root's translation."""
CLIP_FRAMES = 60
"""Length of the clips that MotionCritic is trained on: three seconds."""
CLIP_CEILING = 12.0
"""Scores above this are outliers, or a policy's exploitation of the critic: `clipped_mean` leaves them out."""


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """Sizes of a critic; the defaults are those of the published weights."""

    dim_feat: int = 256
    """C."""
    dim_rep: int = 512
    """R."""
    depth: int = 3
    num_heads: int = 8
    mlp_ratio: int = 4
    """Width of the inner layer of a perceptron, in units of C."""
    maxlen: int = 243
    """Largest number of frames."""
    qkv_bias: bool = True
    att_fuse: bool = True
    """Mix the streams by learned shares instead of their mean."""
    inputs: InputKind = "poses"
    """What the network sees of a motion, `rewards.critic.inputs`; the published weights see the poses alone."""


PUBLISHED = CriticConfig()
"""MotionCritic's `big_model`, the size of its published weights: 22,792,714 parameters."""
PUBLISHED_SMALL = CriticConfig(dim_feat=128, dim_rep=256, mlp_ratio=2)
"""Its size without that option: 4,937,994 parameters."""


class Perceptron(nn.Module):
    """Linear, GELU (exact), Linear."""

    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., width] to [..., out]."""
        return self.fc2(F.gelu(self.fc1(x)))


class JointAttention(nn.Module):
    """Self-attention over the joints of each frame, or over the frames of each joint."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.dim_feat, 3 * config.dim_feat, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim_feat, config.dim_feat)

    def forward(self, x: Tensor, over_frames: bool, mask: Tensor | None) -> Tensor:
        """Maps [B, T, J, C] to the same shape; `mask` [B, T] is True for real frames."""
        if over_frames:
            x = x.transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).flatten(0, 1).permute(2, 0, 3, 1, 4)
        key_mask = None
        if over_frames and mask is not None:
            key_mask = mask.repeat_interleave(x.shape[1], dim=0)[:, None, None]
        attended = attend(q, k, v, key_mask, 0.0).transpose(1, 2).flatten(2)
        out = self.proj(attended).unflatten(0, x.shape[:2])
        return out.transpose(1, 2) if over_frames else out


class StreamBlock(nn.Module):
    """Attention and perceptron over joints, and over frames, each before a LayerNorm's residual sum."""

    def __init__(self, config: CriticConfig, frames_first: bool) -> None:
        super().__init__()
        self.frames_first = frames_first
        width, inner = config.dim_feat, config.mlp_ratio * config.dim_feat
        self.norm1_s, self.norm1_t = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm2_s, self.norm2_t = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn_s, self.attn_t = JointAttention(config), JointAttention(config)
        self.mlp_s, self.mlp_t = Perceptron(width, inner, width), Perceptron(width, inner, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Maps [B, T, J, C] to the same shape."""
        for over_frames in (self.frames_first, not self.frames_first):
            if over_frames:
                x = x + self.attn_t(self.norm1_t(x), True, mask)
                x = x + self.mlp_t(self.norm2_t(x))
            else:
                x = x + self.attn_s(self.norm1_s(x), False, mask)
                x = x + self.mlp_s(self.norm2_s(x))
        return x


class CriticEncoder(nn.Module):
    """The dual-stream transformer."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        width = config.dim_feat
        self.att_fuse = config.att_fuse
        self.joints_embed = nn.Linear(INPUT_WIDTH[config.inputs], width)
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_ROWS, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, config.maxlen, 1, width))
        self.blocks_st = nn.ModuleList(StreamBlock(config, frames_first=False) for _ in range(config.depth))
        self.blocks_ts = nn.ModuleList(StreamBlock(config, frames_first=True) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.pre_logits = nn.ModuleDict({"fc": nn.Linear(width, config.dim_rep)})
        # The published checkpoints hold it; no score depends on it.
        self.head = nn.Linear(config.dim_rep, 3)
        if config.att_fuse:
            self.ts_attn = nn.ModuleList(nn.Linear(2 * width, 2) for _ in range(config.depth))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.temp_embed, std=0.02)
        for share in self.ts_attn if self.att_fuse else ():
            assert isinstance(share, nn.Linear)
            nn.init.zeros_(share.weight)
            nn.init.constant_(share.bias, 0.5)

    def forward(self, motion: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, J, R] of `motion` [B, T, J, 3 or 9]."""
        x = self.joints_embed(motion) + self.pos_embed.unsqueeze(1) + self.temp_embed[:, : motion.shape[1]]
        for index, (space_first, time_first) in enumerate(zip(self.blocks_st, self.blocks_ts, strict=True)):
            one, other = space_first(x, mask), time_first(x, mask)
            if self.att_fuse:
                shares = self.ts_attn[index](torch.cat((one, other), dim=-1)).softmax(dim=-1)
                x = one * shares[..., :1] + other * shares[..., 1:]
            else:
                x = 0.5 * (one + other)
        return torch.tanh(self.pre_logits["fc"](self.norm(x)))


class MotionCritic(nn.Module):
    """Scores motions by how natural they look.

    Example:
        critic = MotionCritic(CriticConfig(dim_feat=32, dim_rep=32, depth=2, num_heads=4, mlp_ratio=2))
        scores = critic(motion)                    # [B] of motion [B, T, 25, 3]
    """

    def __init__(self, config: CriticConfig = PUBLISHED) -> None:
        super().__init__()
        if config.dim_feat % config.num_heads:
            raise ValueError(f"dim_feat {config.dim_feat} is no multiple of num_heads {config.num_heads}")
        self.config = config
        self.dstran = CriticEncoder(config)
        self.mlp = Perceptron(NUM_ROWS * config.dim_rep, 2 * config.dim_rep, 1)

    def forward(self, motion: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores [B], unbounded, higher is better. They are comparable between motions of the same prompt.

        Args:
            motion: [B, T, 25, 3], see `rewards.critic.poses`.
            lengths: [B] int64, numbers of real frames; what lies beyond changes nothing. None: all are real, as in the
                public project, which has no masks.

        Raises:
            ValueError: another shape, more than `maxlen` frames, or a length outside 1..T.
        """
        frames = motion.shape[1] if motion.ndim == 4 else 0
        if motion.ndim != 4 or motion.shape[2:] != (NUM_ROWS, 3) or not 1 <= frames <= self.config.maxlen:
            raise ValueError(
                f"critic: motion {tuple(motion.shape)}; it takes [B, T, {NUM_ROWS}, 3] of at most "
                f"{self.config.maxlen} frames"
            )
        if lengths is None:
            return self.mlp(self.dstran(self._seen(motion)).mean(dim=1).flatten(1)).squeeze(-1)
        if lengths.shape != motion.shape[:1] or int(lengths.min()) < 1 or int(lengths.max()) > frames:
            raise ValueError(f"critic: lengths {lengths.tolist()}, legal are {len(motion)} of 1..{frames}")
        mask = torch.arange(frames, device=motion.device) < lengths[:, None]
        seen = self._seen(torch.where(mask[:, :, None, None], motion, 0.0), lengths)
        features = self.dstran(seen, mask) * mask[:, :, None, None]
        return self.mlp((features.sum(dim=1) / lengths[:, None, None]).flatten(1)).squeeze(-1)

    def _seen(self, motion: Tensor, lengths: Tensor | None = None) -> Tensor:
        return movement(motion, lengths) if self.config.inputs == "movement" else motion


def clipped_mean(scores: Tensor, ceiling: float = CLIP_CEILING) -> Tensor:
    """MotionCritic's figure for a batch: the mean of the scores [B] that are at most `ceiling`.

    If all are above, it is the constant `ceiling`, without gradient. The score of a single clip is not clipped.
    """
    if len(scores) == 1:
        return scores[0]
    kept = scores[scores <= ceiling]
    return kept.mean() if len(kept) else scores.new_tensor(ceiling)
