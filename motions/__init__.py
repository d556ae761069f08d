"""What a motion is: skeletons, features, mocap clips, BVH files, datasets, prompts, metrics and drawing.

A motion is an array [T, D] or [B, T, D] of float32 features, batch first, with `lengths` [B]. Features are physical
(metres, radians, metres per second) in datasets, rewards, files and the report, and normalised only inside a policy.
Masks are boolean, True for a real frame. The names below are this layer's public interface: what your own reward,
dataset or script imports, as in `from motions import Prompt`.
"""

from typing import TYPE_CHECKING

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from motions.base.errors import UserError as UserError
    from motions.data.composite_records import build_composite_records as build_composite_records
    from motions.data.composite_records import write_composite_records as write_composite_records
    from motions.data.dataset import MotionDataset as MotionDataset
    from motions.data.dataset import load_dataset as load_dataset
    from motions.data.folder_writer import FolderClip as FolderClip
    from motions.data.folder_writer import write_dataset as write_dataset
    from motions.data.prompts import Prompt as Prompt
    from motions.data.prompts import Segment as Segment
    from motions.data.prompts import load_prompts as load_prompts
    from motions.data.prompts import save_prompts as save_prompts
    from motions.data.text_motion import MotionBatch as MotionBatch
    from motions.data.text_motion import TextMotion as TextMotion
    from motions.data.text_motion import sample_batch as sample_batch
    from motions.drawing import contact_sheet as contact_sheet
    from motions.drawing import draw_frames as draw_frames
    from motions.drawing import save_gif as save_gif
    from motions.scenes.rules import parse_text as parse_text
    from motions.scenes.scene import Scene as Scene
    from motions.scenes.scene import read_scene as read_scene
    from motions.scenes.scene import write_scene as write_scene
    from motions.scenes.timing import to_prompts as to_prompts
    from motions.settings import Settings as Settings
    from motions.skeleton.features import FeatureLayout as FeatureLayout
    from motions.skeleton.features import extract_features as extract_features
    from motions.skeleton.features import recover_joints as recover_joints
    from motions.skeleton.normalization import Normalizer as Normalizer
    from motions.skeleton.skeletons import HUMANML3D as HUMANML3D
    from motions.skeleton.skeletons import KIT as KIT
    from motions.skeleton.skeletons import Skeleton as Skeleton
    from motions.skeleton.skeletons import get_skeleton as get_skeleton
else:
    __getattr__ = lazy_names(__name__)
