"""The evaluator's networks: order, padding and whole fours of frames."""

from __future__ import annotations

import torch

from tests.toys.small_evaluator import CONFIG, small_evaluator


def motions(num: int, frames: int) -> torch.Tensor:
    return torch.randn(num, frames, 263, generator=torch.Generator().manual_seed(1))


def test_motions_come_in_their_order_and_padding_and_contacts_are_not_seen() -> None:
    evaluator, lengths = small_evaluator(), torch.tensor([12, 40, 21])
    x = motions(3, 40)
    out = evaluator.encode_motion(x, lengths)
    assert out.shape == (3, CONFIG.embedding_dim)
    for row, length in enumerate(lengths.tolist()):
        alone = evaluator.encode_motion(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone[0], out[row], atol=1e-5, rtol=0)
    changed = torch.where(torch.arange(40)[:, None] < lengths[:, None, None], x, 9.0)
    changed[:, :, -4:] = 3.0
    changed[2, 20] = 7.0  # beyond the last whole four of 21 frames
    torch.testing.assert_close(evaluator.encode_motion(changed, lengths), out, atol=1e-5, rtol=0)
    swapped = evaluator.encode_motion(x.flip(0), lengths.flip(0)).flip(0)
    torch.testing.assert_close(swapped, out, atol=1e-5, rtol=0)
    assert (evaluator.encode_motion(2 * x, lengths) - out).abs().max() > 0.01


def test_texts_come_in_their_order_and_classes_matter() -> None:
    evaluator, generator = small_evaluator(), torch.Generator().manual_seed(2)
    words, lengths = torch.randn(3, 6, CONFIG.word_dim, generator=generator), torch.tensor([3, 6, 4])
    classes = torch.eye(15)[torch.randint(15, (3, 6), generator=generator)]
    out = evaluator.encode_text(words, classes, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = evaluator.encode_text(
            words[row : row + 1, :length], classes[row : row + 1, :length], lengths[row : row + 1]
        )
        torch.testing.assert_close(alone[0], out[row], atol=1e-5, rtol=0)
    assert (evaluator.encode_text(words, classes.roll(1, dims=2), lengths) - out).abs().max() > 0.01


def test_motion_embeddings_have_a_gradient() -> None:
    x = motions(2, 12).requires_grad_()
    small_evaluator().encode_motion(x, torch.tensor([12, 8])).square().sum().backward()
    assert x.grad is not None and x.grad[0, :, :-4].abs().max() > 0 and x.grad[:, :, -4:].abs().max() == 0
