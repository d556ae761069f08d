"""The simulated world obeys mechanics, in both engines."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from envs.scenes.assets import Asset, Piece, Point
from envs.scenes.contacts import ContactLog, pair_of
from envs.scenes.world import Engine, World, make_world
from envs.settings import DeepMimicSettings
from envs.task.imitation_task import ImitationTask
from motions.base.errors import UserError
from motions.humanoid.mocap import MocapClip, load_clip

pytestmark = pytest.mark.slow

G = 9.81
SETTINGS = DeepMimicSettings(joints="ball", push_body="root", early_termination=False, root_sync=False)
BOX = (Piece("box", (0.1, 0.1, 0.1)),)
BALL = (Piece("sphere", (0.11,)),)
ENGINES: list[Engine] = ["mujoco", "bullet"]
both = pytest.mark.parametrize("engine", ENGINES)


def thing(name: str, pieces: tuple[Piece, ...], place: Point, mass: float = 2.0, friction: float = 0.5) -> Asset:
    return Asset(name, pieces, place, (0.2, 0.2, 0.2), mass, friction, (0.8, 0.1, 0.1))


def humanoid(engine: Engine, assets: list[Asset], clip: MocapClip | None = None) -> tuple[World, ImitationTask]:
    """A world with somebody who walks along +x, or as a clip has it."""
    task = ImitationTask(SETTINGS, 1, clips=None if clip is None else [clip])
    task.start_at(np.arange(1), np.zeros(1, dtype=np.int64), np.zeros(1))
    return make_world(engine, assets, SETTINGS, task, ("man",)), task


def walk(world: World, task: ImitationTask, steps: int) -> None:
    for _ in range(steps):
        targets = task.targets(np.zeros((1, 28), np.float32), world.state.coordinates)
        touching, diverged = world.step(targets)
        task.advance(world.state, touching, diverged)


@both
def test_a_box_dropped_from_a_metre_lands_in_time(engine: Engine) -> None:
    world = make_world(engine, [thing("box", BOX, (0.0, 0.0, 1.1))], SETTINGS)
    for _ in range(20):
        world.step()
    first = world.contacts.events[0]
    assert (first.body, first.object) == ("box", "floor")
    assert first.start_s == pytest.approx(math.sqrt(2.0 / G), rel=0.02)
    assert world.time == pytest.approx(20 / 30) and world.object_poses()[0, 2] == pytest.approx(0.1, abs=0.002)
    world.close()


@both
@pytest.mark.parametrize("friction", [0.2, 0.5])
def test_a_block_slides_as_far_as_friction_lets_it(engine: Engine, friction: float) -> None:
    block = replace(thing("block", BOX, (0.0, 0.0, 0.1), friction=friction), velocity_mps=(2.0, 0.0, 0.0))
    world = make_world(engine, [block], SETTINGS)
    for _ in range(60):
        world.step()
    assert world.object_poses()[0, 0] == pytest.approx(2.0**2 / (2 * friction * G), rel=0.05)
    assert np.abs(world.object_velocities()).max() < 1e-3
    world.close()


@both
def test_what_falls_on_the_floor_gives_it_its_weight(engine: Engine) -> None:
    world = make_world(engine, [thing("box", BOX, (0.0, 0.0, 0.1), mass=3.0)], SETTINGS)
    for _ in range(30):
        world.step()
    assert sum(event.impulse_ns for event in world.contacts.events) == pytest.approx(3.0 * G * 1.0, rel=0.02)
    world.close()


@both
def test_shapes_of_several_pieces_stand_and_carry(engine: Engine) -> None:
    legs = tuple(Piece("box", (0.02, 0.02, 0.28), (x * 0.4, y * 0.2, -0.02)) for x in (-1, 1) for y in (-1, 1))
    table = thing("table", (Piece("box", (0.5, 0.3, 0.02), (0.0, 0.0, 0.28)), *legs), (0.0, 0.0, 0.3), 20.0)
    cup = thing("cup", (Piece("cylinder", (0.04, 0.05)),), (0.1, 0.0, 0.65), 0.3)
    wheel = thing("wheel", (Piece("cylinder", (0.2, 0.05), axis="x"),), (2.0, 0.0, 0.2))
    corners = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
    block = thing("block", (Piece("mesh", (), points=corners),), (3.0, 0.0, 0.1))
    lamp = replace(thing("lamp", BALL, (-2.0, 0.0, 2.0)), fixed=True)
    assets = [table, cup, wheel, block, lamp]
    world = make_world(engine, assets, SETTINGS)
    for _ in range(45):
        world.step()
    for asset, pose in zip(assets, world.object_poses(), strict=True):
        np.testing.assert_allclose(pose[:3], asset.place, atol=0.005, err_msg=asset.name)
        assert abs(pose[3]) == pytest.approx(1.0, abs=1e-3)
    pairs = {(event.body, event.object) for event in world.contacts.events}
    assert pairs == {("cup", "table"), ("table", "floor"), ("wheel", "floor"), ("block", "floor")}
    world.close()


@both
def test_without_motors_the_root_falls_by_g(engine: Engine) -> None:
    walk_clip = load_clip("walk")
    still = replace(
        walk_clip,
        cyclic=False,
        root_positions=walk_clip.root_positions[:1].expand_as(walk_clip.root_positions)
        + walk_clip.root_positions.new_tensor([0.0, 3.0, 0.0]),
        ball_rotations=walk_clip.ball_rotations[:1].expand_as(walk_clip.ball_rotations),
        hinge_angles=walk_clip.hinge_angles[:1].expand_as(walk_clip.hinge_angles),
    )
    world, _ = humanoid(engine, [], still)
    heights = [world.state.root_position[0, 2]]
    for _ in range(12):
        world.step()
        heights.append(world.state.root_position[0, 2])
    np.testing.assert_allclose(np.diff(heights, 2) * 30.0**2, -G, rtol=1e-3)
    assert world.state.root_linear[0, 2] == pytest.approx(-G * 12 / 30, rel=1e-3)
    assert not world.contacts.events
    world.close()


@both
def test_a_ball_rests_without_the_humanoid_and_moves_by_its_foot(engine: Engine) -> None:
    ball = thing("ball", BALL, (0.42, 0.08, 0.11), 0.43)
    alone = make_world(engine, [ball], SETTINGS)
    for _ in range(30):
        alone.step()
    assert np.linalg.norm(alone.object_poses()[0, :3] - ball.place) < 1e-3
    alone.close()
    world, task = humanoid(engine, [ball])
    walk(world, task, 20)
    touches = [event for event in world.contacts.events if event.is_of_actor]
    moved = np.linalg.norm(world.object_poses()[0, :2] - ball.place[:2])
    assert touches[0].body == "man/left_ankle" and touches[0].object == "ball" and touches[0].impulse_ns > 0.1
    assert {event.body.split("/")[0] for event in touches} == {"man"} and moved > 0.1
    world.close()


@both
def test_four_worlds_in_one_process_give_the_same_bits(engine: Engine) -> None:
    made = [humanoid(engine, [thing("ball", BALL, (0.55, -0.08, 0.11), 0.43)]) for _ in range(4)]
    for _ in range(12):  # Interleaved: a global client or a shared model would show.
        for world, task in made:
            walk(world, task, 1)
    for world, _ in made[1:]:
        np.testing.assert_array_equal(world.object_poses(), made[0][0].object_poses())
        np.testing.assert_array_equal(world.body_poses(), made[0][0].body_poses())
        assert world.contacts.events == made[0][0].contacts.events
    for world, _ in made:
        world.close()


@both
def test_what_is_not_finite_is_counted(engine: Engine) -> None:
    world, task = humanoid(engine, [thing("ball", BALL, (2.0, 0.0, 0.11))])
    walk(world, task, 2)
    before = world.body_poses()
    targets = task.targets(np.zeros((1, 28), np.float32), world.state.coordinates)
    flags = [world.step(targets, np.full((1, 6), np.nan))[1] for _ in range(3)]
    assert world.num_bad_steps == 3 and np.all(flags)
    assert np.isfinite(world.body_poses()).all() and np.isfinite(world.state.packed).all()
    if engine == "bullet":
        np.testing.assert_array_equal(world.body_poses(), before)
    world.close()


def test_settings_that_mujoco_does_not_simulate_are_refused() -> None:
    with pytest.raises(UserError, match="use the engine bullet"):
        make_world("mujoco", [], SETTINGS.model_copy(update={"pd": "stable"}))
    with pytest.raises(ValueError, match="1 actors"):
        make_world("mujoco", [], SETTINGS, None, ("man",))


def test_interrupted_contacts_are_one_event_and_names_have_an_order() -> None:
    log, pair = ContactLog(), pair_of("ball", "man/right_ankle")
    assert pair == ("man/right_ankle", "ball") and pair_of("floor", "ball") == ("ball", "floor")
    for time in (0.0, 0.02, 0.2):
        log.add(time, 0.01, {pair: 100.0 * (1 + time)})
    assert [(event.start_s, round(event.end_s, 3)) for event in log.events] == [(0.0, 0.03), (0.2, 0.21)]
    assert log.events[0].impulse_ns == pytest.approx(0.01 * 202) and log.events[0].peak_n == pytest.approx(102)
    assert log.events[0].is_of_actor
