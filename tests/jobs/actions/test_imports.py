"""What the jobs around MotionCritic need at import: no package that only some options use, and no data."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.house.source_tree import ROOT

OPTIONAL = ("wandb", "clearml", "blobfile", "spacy", "clip", "chumpy", "pyrender", "smplx", "moviepy", "cv2")
DATA = (".pkl", ".pth", ".pt", ".npy", ".npz", ".tar", ".safetensors")

IMPORT_ALL = f"""
import importlib, json, pkgutil, sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
names = []
for package in ("jobs.actions", "rewards.actions", "rewards.critic"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
        names.append(module.name)
import torch
data = [path for path in opened if path.endswith({DATA!r})]
print(json.dumps([names, data, torch.is_anomaly_enabled()]))
"""


def test_imports_need_no_further_package_read_no_data_and_slow_nothing_down() -> None:
    """MotionCritic's scripts import wandb, spacy, pyrender and others at the top, read all real clips when their
    metrics are imported, and switch on autograd's anomaly detection for the whole process."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=True)
    names, data, anomaly_detection = json.loads(done.stdout)
    assert {"jobs.actions.direct", "jobs.actions.real_clips", "rewards.actions.uestc"} <= set(names)
    assert data == []
    assert not anomaly_detection
