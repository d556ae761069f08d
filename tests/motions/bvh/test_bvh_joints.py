"""HumanML3D's joints are found in the rigs people have, or the error says what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from motions.bvh import clips as bvh_clips
from motions.bvh.hierarchy import BvhError
from motions.bvh.joints import JointMap, load_mapping, map_joints
from motions.bvh.reader import parse_bvh
from motions.bvh.rest_pose import motion_range
from motions.skeleton.skeletons import HUMANML3D
from tests.toys.bvh_files import MIXAMO, Rig, animate, bvh_text

pytestmark = pytest.mark.slow

LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")


def rig(trunk: str, left: str, right: str) -> Rig:
    """A rig from its names in the order of TRUNK and LIMBS, separated by commas; an empty name leaves the joint out."""
    names = dict(zip(TRUNK, trunk.split(","), strict=True))
    for side, limbs in (("left", left), ("right", right)):
        names |= {f"{side}_{joint}": name for joint, name in zip(LIMBS, limbs.split(","), strict=True)}
    return Rig({joint: name for joint, name in names.items() if name})


def sided(trunk: str, limbs: str, left: str, right: str) -> Rig:
    """A rig whose limbs differ in a word for the side, `*` in `limbs`."""
    return rig(trunk, limbs.replace("*", left), limbs.replace("*", right))


RIGS = {
    "cmu": sided(
        "Hips,LowerBack,Spine,Spine1,Neck,Head",
        "*UpLeg,*Leg,*Foot,*ToeBase,*Shoulder,*Arm,*ForeArm,*Hand",
        "Left",
        "Right",
    ),
    "cmu asf": rig(
        "root,lowerback,upperback,thorax,neck,head",
        "lfemur,ltibia,lfoot,ltoes,lclavicle,lhumerus,lradius,lwrist",
        "rfemur,rtibia,rfoot,rtoes,rclavicle,rhumerus,rradius,rwrist",
    ),
    "mixamo": Rig(MIXAMO),
    "lafan1": sided(
        "Hips,Spine,Spine1,Spine2,Neck,Head",
        "*UpLeg,*Leg,*Foot,*Toe,*Shoulder,*Arm,*ForeArm,*Hand",
        "Left",
        "Right",
    ),
    "smpl": sided(
        "Pelvis,Spine1,Spine2,Spine3,Neck,Head",
        "*_Hip,*_Knee,*_Ankle,*_Foot,*_Collar,*_Shoulder,*_Elbow,*_Wrist",
        "L",
        "R",
    ),
    "humanml3d": Rig({name: name for name in HUMANML3D.joint_names}),
    "xsens": sided(
        "Hips,Chest,Chest2,Chest3,Neck,Head",
        "*Hip,*Knee,*Ankle,*Toe,*Collar,*Shoulder,*Elbow,*Wrist",
        "Left",
        "Right",
    ),
    "xsens mvn": sided(
        "Pelvis,L5,L3,T8,Neck,Head",
        "* Upper Leg,* Lower Leg,* Foot,* Toe,* Shoulder,* Upper Arm,* Forearm,* Hand",
        "Left",
        "Right",
    ),
    "rokoko": sided(
        "Hips,Spine,Spine2,Spine4,Neck,Head",
        "*Thigh,*Shin,*Foot,*Toe,*Shoulder,*Arm,*ForeArm,*Hand",
        "Left",
        "Right",
    ),
    "biped": sided(
        "Bip01 Pelvis,Bip01 Spine,Bip01 Spine1,Bip01 Spine2,Bip01 Neck,Bip01 Head",
        "Bip01 * Thigh,Bip01 * Calf,Bip01 * Foot,Bip01 * Toe0,Bip01 * Clavicle,Bip01 * UpperArm,Bip01 * Forearm,"
        "Bip01 * Hand",
        "L",
        "R",
    ),
    "rigify": sided(
        "spine,spine.001,spine.002,spine.003,spine.004,spine.006",
        "thigh.*,shin.*,foot.*,toe.*,shoulder.*,upper_arm.*,forearm.*,hand.*",
        "L",
        "R",
    ),
    "rigify deform": sided(
        "DEF-hips,DEF-spine,DEF-spine.001,DEF-chest,DEF-neck,DEF-head",
        "DEF-thigh.*,DEF-shin.*,DEF-foot.*,DEF-toe.*,DEF-shoulder.*,DEF-upper_arm.*,DEF-forearm.*,DEF-hand.*",
        "L",
        "R",
    ),
    "unreal": sided(
        "pelvis,spine_01,spine_02,spine_03,neck_01,head",
        "thigh_*,calf_*,foot_*,ball_*,clavicle_*,upperarm_*,lowerarm_*,hand_*",
        "l",
        "r",
    ),
    "vrm": sided(
        "J_Bip_C_Hips,J_Bip_C_Spine,J_Bip_C_Chest,J_Bip_C_UpperChest,J_Bip_C_Neck,J_Bip_C_Head",
        "J_Bip_*_UpperLeg,J_Bip_*_LowerLeg,J_Bip_*_Foot,J_Bip_*_ToeBase,J_Bip_*_Shoulder,J_Bip_*_UpperArm,"
        "J_Bip_*_LowerArm,J_Bip_*_Hand",
        "L",
        "R",
    ),
    "daz": sided(
        "hip,abdomen,abdomen2,chest,neck,head", "*Thigh,*Shin,*Foot,*Toe,*Collar,*Shldr,*ForeArm,*Hand", "l", "r"
    ),
    "biovision": sided("Hips,,,Chest,Neck,Head", "*UpLeg,*LowLeg,*Foot,,*Collar,*UpArm,*LowArm,*Hand", "Left", "Right"),
    "bandai": sided(
        "Hips,Spine,,Chest,Neck,Head",
        "UpperLeg_*,LowerLeg_*,Foot_*,Toes_*,Shoulder_*,UpperArm_*,LowerArm_*,Hand_*",
        "L",
        "R",
    ),
    "character creator": sided(
        "CC_Base_Hip,CC_Base_Waist,CC_Base_Spine01,CC_Base_Spine02,CC_Base_NeckTwist01,CC_Base_Head",
        "CC_Base_*_Thigh,CC_Base_*_Calf,CC_Base_*_Foot,CC_Base_*_ToeBase,CC_Base_*_Clavicle,CC_Base_*_Upperarm,"
        "CC_Base_*_Forearm,CC_Base_*_Hand",
        "L",
        "R",
    ),
    "smpl avatar": sided(
        "m_avg_Pelvis,m_avg_Spine1,m_avg_Spine2,m_avg_Spine3,m_avg_Neck,m_avg_Head",
        "m_avg_*_Hip,m_avg_*_Knee,m_avg_*_Ankle,m_avg_*_Foot,m_avg_*_Collar,m_avg_*_Shoulder,m_avg_*_Elbow,"
        "m_avg_*_Wrist",
        "L",
        "R",
    ),
    "daz genesis 8": sided(
        "hip,abdomenLower,abdomenUpper,chestLower,neckLower,head",
        "*ThighBend,*Shin,*Foot,*Toe,*Collar,*ShldrBend,*ForearmBend,*Hand",
        "l",
        "r",
    ),
    "daz genesis 9": sided(
        "hip,spine1,spine2,spine3,neck1,head",
        "*_thigh,*_shin,*_foot,*_toes,*_shoulder,*_upperarm,*_forearm,*_hand",
        "l",
        "r",
    ),
    "mikumikudance": sided("センター,,上半身,上半身2,首,頭", "*足,*ひざ,*足首,*つま先,*肩,*腕,*ひじ,*手首", "左", "右"),
    "mikumikudance in english": sided(
        "center,,upper body,upper body2,neck,head",
        "leg_*,knee_*,ankle_*,toe_*,shoulder_*,arm_*,elbow_*,wrist_*",
        "L",
        "R",
    ),
    "short": sided("Hips,LoBack,MidBack,UpBack,Neck,Head", "*ULeg,*LLeg,*Foot,*Toe,*Clav,*UArm,*LArm,*Hand", "L", "R"),
    "joint suffix": sided(
        "hips_JNT,spine_JNT,spine1_JNT,spine2_JNT,neck_JNT,head_JNT",
        "*_upleg_JNT,*_leg_JNT,*_foot_JNT,*_toebase_JNT,*_shoulder_JNT,*_arm_JNT,*_forearm_JNT,*_hand_JNT",
        "l",
        "r",
    ),
    "middle suffix": sided(
        "hips_c_jnt,spine_c_jnt,spine1_c_jnt,spine2_c_jnt,neck_c_jnt,head_c_jnt",
        "upleg_*_jnt,leg_*_jnt,foot_*_jnt,toebase_*_jnt,shoulder_*_jnt,arm_*_jnt,forearm_*_jnt,hand_*_jnt",
        "l",
        "r",
    ),
    "running numbers": Rig(
        {joint: f"{name.split(':')[-1]}_{number:02d}" for number, (joint, name) in enumerate(MIXAMO.items())}
    ),
    "blender copy": sided(
        "Hips.001,Spine.001,Spine1.001,Spine2.001,Neck.001,Head.001",
        "*UpLeg.001,*Leg.001,*Foot.001,*ToeBase.001,*Shoulder.001,*Arm.001,*ForeArm.001,*Hand.001",
        "Left",
        "Right",
    ),
    "partly copied": sided(
        "Hips,Spine,Spine1,Spine2,Neck,Head.002",
        "*UpLeg,*Leg.001,*Foot,*ToeBase,*Shoulder,*Arm,*ForeArm.001,*Hand",
        "Left",
        "Right",
    ),
    "roblox": sided(
        "LowerTorso,,UpperTorso,,,Head",
        "*UpperLeg,*LowerLeg,*Foot,,,*UpperArm,*LowerArm,*Hand",
        "Left",
        "Right",
    ),
    "performer": sided(
        "Bob_Hips,Bob_Spine,Bob_Spine1,Bob_Spine2,Bob_Neck,Bob_Head",
        "Bob_*UpLeg,Bob_*Leg,Bob_*Foot,Bob_*Toe,Bob_*Shoulder,Bob_*Arm,Bob_*ForeArm,Bob_*Hand",
        "Left",
        "Right",
    ),
}


def joints_of(
    file_rig: Rig, mapping: Mapping[str, str | None] | None = None, num_frames: int = 30
) -> tuple[JointMap, np.ndarray]:
    """The joint map and the 22 joints, in metres, of an animation of a rig."""
    bvh = parse_bvh(bvh_text(animate(file_rig, num_frames), unit=1.0), "clip.bvh")
    joint_map = map_joints(bvh, mapping)
    return joint_map, bvh_clips.sample_joints(bvh, joint_map, 20.0, motion_range(bvh, joint_map))


@pytest.mark.parametrize("name", RIGS)
def test_common_rigs_are_recognised(name: str) -> None:
    file_rig = RIGS[name]
    joint_map, joints = joints_of(file_rig)
    expected = animate(file_rig, 30).positions()
    spine = [joint for joint in TRUNK if joint.startswith("spine") and joint in file_rig.names]
    sure = [joint for joint in file_rig.joints if joint not in spine or len(spine) == 3]
    assert joint_map.mapped == {joint: file_rig.names[joint] for joint in HUMANML3D.joint_names if joint in sure}
    assert set(joint_map.placed) == set(HUMANML3D.joint_names) - set(sure)
    for joint in sure:
        np.testing.assert_allclose(joints[:, HUMANML3D.index(joint)], expected[:, HUMANML3D.index(joint)], atol=1e-4)
    assert np.isfinite(joints).all()


def test_what_is_missing_is_placed_between_its_neighbours() -> None:
    names = {joint: name for joint, name in MIXAMO.items() if joint not in ("spine2", "neck")}
    names = {joint: name for joint, name in names.items() if not joint.endswith(("collar", "foot"))}
    joint_map, joints = joints_of(Rig(names))
    full = animate(Rig(names), 30).positions()
    assert set(joint_map.placed) == {
        *("spine1", "spine2", "spine3", "neck", "left_collar", "right_collar", "left_foot", "right_foot")
    }
    at = {joint: joints[:, HUMANML3D.index(joint)] for joint in HUMANML3D.joint_names}
    # The spine climbs from the pelvis to the neck, collars lie to their side, feet before the ankles.
    heights = [at[joint][0, 1] for joint in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")]
    assert heights == sorted(heights) and min(np.diff(heights)) > 0.02
    across = at["left_shoulder"][0] - at["right_shoulder"][0]
    assert (at["left_collar"][0] - at["neck"][0]) @ across > 0 > (at["right_collar"][0] - at["neck"][0]) @ across
    ankle = full[:, HUMANML3D.index("left_ankle")]
    np.testing.assert_allclose(np.linalg.norm(at["left_foot"] - ankle, axis=-1), 0.7 * 0.1, atol=1e-5)
    report = joint_map.report()
    assert "left_knee=mixamorig:LeftLeg" in report and "70% of the way from left_ankle to" in report


def test_joints_that_lie_upon_one_another_are_not_used_twice() -> None:
    """CMU's files have a lower back at the hips, and neck and collars at the top of the spine."""
    text = bvh_text(animate(RIGS["cmu"], 30), unit=1.0)
    for name in ("LowerBack", "LeftShoulder", "RightShoulder"):
        head, tail = text.split(f"JOINT {name}\n", 1)
        before, _, after = tail.partition("OFFSET ")
        text = f"{head}JOINT {name}\n{before}OFFSET 0 0 0\n{after.partition(chr(10))[2]}"
    bvh = parse_bvh(text, "cmu.bvh")
    joint_map = map_joints(bvh)
    assert set(joint_map.placed) == {"spine1", "spine2", "spine3", "left_collar", "right_collar"}
    joints = bvh_clips.sample_joints(bvh, joint_map, 20.0, motion_range(bvh, joint_map))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            assert np.linalg.norm(joints[:, joint] - joints[:, parent], axis=-1).min() > 0.02, joint


def test_unused_joints_are_reported() -> None:
    text = bvh_text(animate(Rig(MIXAMO), 3))
    thumb = "JOINT Thumb\n{\nOFFSET 1 0 0\nCHANNELS 0\nEnd Site\n{\nOFFSET 1 0 0\n}\n}\n"
    end = text.index("End Site", text.index("mixamorig:LeftHand"))
    joint_map = map_joints(parse_bvh(text[:end] + thumb + text[end:], "thumb.bvh"))
    assert joint_map.left_out == ("Thumb",)
    assert joint_map.report().splitlines()[-1] == "left out: Thumb"


def test_a_users_mapping_wins(tmp_path: Path) -> None:
    odd = {joint: f"bone{index}" for index, joint in enumerate(MIXAMO)}
    with pytest.raises(BvhError, match="no joint found for"):
        joints_of(Rig(odd))
    for name, text in (
        ("map.yaml", "".join(f"{joint}: {source}\n" for joint, source in odd.items())),
        ("map.json", json.dumps(odd)),
    ):
        (tmp_path / name).write_text(text)
        joint_map, joints = joints_of(Rig(odd), load_mapping(tmp_path / name))
        assert joint_map.mapped == {joint: odd[joint] for joint in HUMANML3D.joint_names} and not joint_map.placed
        np.testing.assert_allclose(joints, animate(Rig(odd), 30).positions(), atol=1e-4)
    collars = {"left_collar": None, "right_collar": None}
    assert set(joints_of(Rig(MIXAMO), collars)[0].placed) == set(collars)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("left_hipp: LeftUpLeg", "'left_hipp' is no HumanML3D joint (nearest: 'left_hip')"),
        ("left_hip: 3", "left_hip: expected the name of a joint or null, found 3"),
        ("left_hip: Leg\nleft_knee: Leg", "left_hip and left_knee are both 'Leg'"),
        ("left_hip: null", "left_hip: cannot be placed between others"),
        ("- left_hip", "expected lines such as"),
        ("a: b: c", "neither YAML nor JSON"),
    ],
)
def test_bad_mappings_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        load_mapping(path)
    assert str(path) in str(error.value) and message in str(error.value)
    with pytest.raises(ValueError, match=r"absent.yaml: No such file"):
        load_mapping(tmp_path / "absent.yaml")


def test_unknown_joints_are_named_with_the_nearest() -> None:
    names = {**MIXAMO, "left_knee": "LeftKneee", "right_ankle": "Paw"}
    with pytest.raises(BvhError) as error:
        joints_of(Rig(names))
    message = str(error.value)
    assert "clip.bvh: no joint found for left_knee, right_ankle" in message
    assert "nearest for left_knee: 'LeftKneee'" in message
    assert "the file's joints are mixamorig:Hips, " in message and "--mapping" in message
    with pytest.raises(BvhError, match=r"left_knee: no joint 'LeftLeg' \(nearest: 'mixamorig:LeftLeg'\)"):
        joints_of(Rig(MIXAMO), {"left_knee": "LeftLeg"})
    headless = {joint: name for joint, name in MIXAMO.items() if joint not in ("neck", "head")}
    with pytest.raises(BvhError, match="no joint found for neck, and the head mixamorig:Hips hangs on none"):
        joints_of(Rig(MIXAMO), {"neck": None, "head": "mixamorig:Hips"})
    with pytest.raises(BvhError, match="no joint found for neck or head"):
        joints_of(Rig(headless))


def test_the_report_says_what_became_of_the_spine() -> None:
    report = joints_of(RIGS["biovision"])[0].report().splitlines()[2]
    assert "Chest at 59% only shapes the line" in report
    assert "Spine is spine1, Spine1 is spine2, Spine2 is spine3" in joints_of(RIGS["lafan1"])[0].report()
