"""What makes pictures a film changes what it should, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from motions.film import Look, depth_of_field, developed, graded, grained, motion_blur, vignetted

NOTHING = Look(saturation=1.0, contrast=1.0, gamma=1.0, warmth=0.0, vignette=0.0, grain=0.0, focus_blur_px=0.0)


def stripes(height: int = 36, width: int = 64) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.float32)
    picture[:, ::4] = (0.8, 0.5, 0.2)
    return picture


def test_a_look_without_effects_leaves_the_picture() -> None:
    picture = stripes()
    result = developed(picture, np.full(picture.shape[:2], 3.0), 1.0, NOTHING, seed=0, frame=0)
    np.testing.assert_array_equal(result, (255 * picture + 0.5).astype(np.uint8))


def test_what_moves_is_blurred_over_the_shutter_time() -> None:
    moments = np.stack([np.roll(stripes(), shift, axis=1) for shift in range(4)])
    blurred = motion_blur(moments)
    expected = np.broadcast_to(moments.mean(axis=(0, 2), keepdims=True)[0], blurred.shape)
    np.testing.assert_allclose(blurred, expected, rtol=1e-5)


def test_what_is_out_of_focus_is_blurred_and_what_is_in_focus_is_not() -> None:
    picture = stripes()
    depths = np.full(picture.shape[:2], 2.0)
    depths[:, 32:] = 20.0
    result = depth_of_field(picture, depths, 2.0, 4.0)
    np.testing.assert_array_equal(result[:, :32], picture[:, :32])
    assert result[:, 40:].std() < 0.5 * picture[:, 40:].std()
    assert result[:, 40:].mean() == pytest.approx(picture[:, 40:].mean(), rel=0.1)
    assert depth_of_field(picture, depths, 2.0, 0.0) is picture


def test_colours_vignette_and_grain() -> None:
    picture = np.full((36, 64, 3), (0.6, 0.5, 0.4), np.float32)
    spread = np.ptp(graded(picture, Look())[0, 0])
    assert spread > np.ptp(picture[0, 0]), "more saturated, warmer"
    dark = vignetted(picture, 0.45)
    assert dark[0, 0, 0] == pytest.approx(0.6 * 0.55, rel=1e-3) and dark[18, 32, 0] == pytest.approx(0.6, rel=0.02)
    first, again, other = (grained(picture, 0.05, 3, frame) for frame in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first - picture).std() == pytest.approx(0.05, rel=0.1)
