"""Motions as files of other tools: any motion that kinetune reads, written as BVH, GLB, MP4, GIF or SMPL parameters."""
