"""Files and folders that are not what an option takes, over all jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.mistakes.table import Case, cases, require_refusal

pytestmark = pytest.mark.slow

SETTINGS = """
jobs.train_retrieval --save_dir run
  --config nothing.yaml >> --config nothing.yaml: no such file
  --config folder >> --config folder >> expected a .yaml file
  --config nowhere.yaml >> nowhere.yaml >> num_stepz >> --num_steps
  --config twice.yaml >> twice.yaml, line 2: seed is given twice
  --config twice_nested.yaml >> twice_nested.yaml, line 3: seed is given twice
  --config two_ways.yaml >> two_ways.yaml >> given twice
  --config list.yaml >> list.yaml >> expected a mapping
  --config scalar.yaml >> scalar.yaml >> expected a mapping
  --config empty.yaml >> empty.yaml >> expected a mapping
  --config tabs.yaml >> tabs.yaml: not a YAML file
  --config open.yaml >> open.yaml: not a YAML file
  --config binary.yaml >> binary.yaml
  --config latin.yaml >> latin.yaml
  --config group_scalar.yaml >> group_scalar.yaml: run is a group
  --config wrong_group.yaml >> wrong_group.yaml >> cluster
  --config unknown_group.yaml >> unknown_group.yaml >> running
  --config text_seed.yaml >> --seed three (text_seed.yaml) >> integer >= 0
  --config list_seed.yaml >> list_seed.yaml >> integer >= 0
  --config map_seed.yaml >> map_seed.yaml >> seed
  --config inf_seed.yaml >> --seed inf (inf_seed.yaml)
  --config null_seed.yaml >> null_seed.yaml >> integer >= 0
  --config big_seed.yaml >> --seed 9223372036854775808
  --config bool_seed.yaml >> --seed 1.5
  --config python.yaml >> python.yaml
  --config anchor.yaml >> anchor.yaml
  --config key.yaml >> key.yaml
  --config other.yaml >> other.yaml: these settings are for jobs.other
  --preset nothing.yaml >> --preset nothing.yaml: no such file
  --preset other.yaml >> other.yaml: these settings are for jobs.other
  --preset list.yaml >> list.yaml >> expected a mapping
jobs.grpo --save_dir run
  --config twice.yaml >> twice.yaml, line 2
  --config python.yaml >> python.yaml
  --config binary.yaml >> binary.yaml
jobs.trpo
  --config group_scalar.yaml >> group_scalar.yaml: run is a group
  --config key.yaml >> key.yaml
"""

FOLDERS = """
jobs.grpo --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir file/run >> save_dir file/run >> is a file
  --save_dir used >> save_dir used >> holds no run
  --save_dir held >> save_dir held >> --resume
  --save_dir held --resume >> held
jobs.pretrain --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir used >> save_dir used >> holds no run
  --save_dir held >> save_dir held >> --resume
jobs.train_retrieval --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir used >> save_dir used >> holds no run
jobs.generate --text walks --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir used >> save_dir used >> holds no results
  --save_dir held >> save_dir held >> holds no results
jobs.sft --dry_run
  --save_path file >> file >> is a file
  --save_path used >> used >> holds no run
  --save_path held >> held >> --resume
jobs.trpo --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir used >> save_dir used >> holds no run
  --save_dir held >> save_dir held >> --resume
jobs.world_model --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir held >> save_dir held >> --resume
jobs.deepmimic --dry_run
  --save_dir file >> save_dir file >> is a file
  --save_dir used >> save_dir used >> holds no run
  --task report --save_dir nothing >> nothing holds no evaluation.json
  --task report --save_dir used >> used holds no evaluation.json
  --task evaluate --save_dir file >> save_dir file >> is a file
jobs.balance --dry_run
  --output folder >> output folder is a folder
  --output file/out.json >> output file >> is a file
jobs.import_motion --bvh_dir clips --captions captions.csv --dry_run
  --save_dir file >> file
  --save_dir used >> used
"""

TEXT = """
jobs.generate --dry_run
  --text_file nothing.txt >> nothing.txt
  --text_file folder >> folder
  --text_file empty.txt >> empty.txt holds no prompt
  --text_file blank.txt >> blank.txt holds no prompt
  --text_file latin.txt >> latin.txt
  --text_file prompts.csv >> prompts.csv
  --text_file broken.jsonl >> broken.jsonl
  --text_file list.jsonl >> list.jsonl
  --text_file empty.jsonl >> empty.jsonl
  --text_file nameless.jsonl >> nameless.jsonl
  --text_file negative.jsonl >> negative.jsonl
  --text_file segments.jsonl >> segments.jsonl
  --text_file numbers.npy >> numbers.npy
  --text_file object.npy >> object.npy
  --text_file binary.bin >> binary.bin
jobs.grpo --save_dir run --runtime local --num_prompts 4 --num_eval_prompts 2 --dry_run
  --prompts_path nothing.txt >> prompts_path >> nothing.txt
  --prompts_path folder >> folder
  --prompts_path empty.txt >> prompts_path: empty.txt holds no prompt
  --prompts_path latin.txt >> latin.txt
  --prompts_path broken.jsonl >> prompts_path >> broken.jsonl
  --eval_prompts_path empty.txt >> eval_prompts_path: empty.txt holds no prompt
  --eval_prompts_path nothing.jsonl >> nothing.jsonl
  --use_composite_dataset --composite_data_path numbers.npy >> composite_data_path >> numbers.npy
  --use_composite_dataset --composite_data_path object.npy >> object.npy
  --dataset folder >> folder
  --dataset no_train >> no_train
jobs.pretrain --save_dir run --layers 1 --latent_dim 16 --ff_size 16 --dry_run
  --dataset file >> file
  --dataset folder >> folder
  --dataset no_train >> no_train
  --dataset wide_mean >> Mean.npy
  --dataset lfs_mean >> Mean.npy
  --dataset cut_motion >> 000001.npy
  --dataset latin_caption >> 000001.txt
  --dataset foreign_ids >> foreign_ids
  --data_dir folder --dataset humanml >> folder
jobs.train_retrieval --save_dir run --dry_run
  --dataset wide_mean >> Mean.npy
  --dataset lfs_mean >> Mean.npy
jobs.import_motion --captions captions.csv --save_dir out --test_share 0 --dry_run
  --bvh_dir nothing >> --bvh_dir nothing >> no such folder
  --bvh_dir file >> --bvh_dir file >> no such folder
  --bvh_dir no_clips >> no .bvh files
  --bvh_dir empty_clips >> walk.bvh
  --bvh_dir cut_clips >> walk.bvh
  --bvh_dir nan_clips >> walk.bvh
  --bvh_dir short_clips >> walk.bvh
  --bvh_dir clips >> walk.bvh
  --bvh_dir clips --mapping mapping.json >> mapping.json
  --bvh_dir clips --mapping nothing.json >> nothing.json
jobs.import_motion --bvh_dir clips --save_dir out --test_share 0 --dry_run
  --captions nothing.csv >> nothing.csv
  --captions folder >> folder
  --captions empty.txt >> empty.txt
  --captions headless.csv >> headless.csv
  --captions missing.csv >> missing.csv:2: no file 'run'
  --captions times.csv >> times.csv
  --captions words.csv >> words.csv
  --captions silent.csv >> silent.csv
  --captions split.csv >> split.csv >> holdout
"""

CHECKPOINTS = """
jobs.generate --text walks --dry_run
  --model_path nothing.pt >> nothing.pt
  --model_path folder >> folder
  --model_path file >> file
  --model_path empty_policy >> model000000001.pt
  --model_path page_policy >> model000000001.pt
  --model_path page.pt >> args.json
  --model_path pointer_policy >> model000000001.pt
  --model_path binary_policy >> model000000001.pt
  --model_path no_args >> args.json
  --model_path bad_args >> args.json
  --model_path CONTROLLER >> deepmimic_walk
  --model_path TMR >> tmr
  --adapter_path folder >> folder
  --adapter_path nothing >> nothing
  --stats_path nothing >> nothing
  --stats_path folder >> folder
  --text_encoder_path nothing --text_encoder clip >> nothing
jobs.grpo --save_dir run --runtime local --num_prompts 4 --num_eval_prompts 2 --dry_run
  --model_path page_policy >> model000000001.pt
  --model_path CONTROLLER >> deepmimic_walk
  --tmr_checkpoint_path nothing --use_dense_reward >> nothing
  --tmr_checkpoint_path folder --use_dense_reward >> folder
  --tmr_checkpoint_path CONTROLLER --use_dense_reward >> deepmimic_walk
  --judge_path nothing >> judge_path nothing
  --judge_path POLICY >> judge_path
  --judge_path folder >> judge_path folder
jobs.trpo --dry_run
  --load_sft_pretrain nothing >> nothing
  --load_sft_pretrain folder >> folder
  --load_sft_pretrain cut_controller >> cut_controller
  --load_sft_pretrain empty_controller >> empty_controller
  --load_sft_pretrain html_controller >> html_controller
  --load_sft_pretrain POLICY >> .pt
  --load_sft_pretrain page.pt >> page.pt
  --load_sft_pretrain CONTROLLER --env_id Hopper-v5 >> other observations
  --task evaluate --load_model_path empty_controller >> empty_controller
  --task evaluate --load_model_path POLICY >> .pt
  --task evaluate --load_model_path CONTROLLER --env_id Hopper-v5 >> other observations
jobs.world_model --dry_run
  --load_sft_pretrain html_controller >> html_controller
  --load_sft_pretrain POLICY >> .pt
  --load_sft_pretrain folder >> folder
jobs.deepmimic --task evaluate --dry_run
  --controller nothing >> nothing
  --controller folder >> folder
  --controller POLICY >> .pt
  --controller html_controller >> html_controller
  --controller cut_controller >> cut_controller
jobs.balance --output out.json --dry_run
  --start nothing.json >> nothing.json
  --start folder >> folder
  --start empty.json >> empty.json
  --start list.json >> list.json
  --start gains.json >> gains.json
  --start nan.json >> nan.json
  --start binary.bin >> binary.bin
jobs.sft --save_path run --dry_run
  --balance_gains gains.json >> gains.json
  --balance_gains nothing.json >> nothing.json
  --motion nothing.txt >> nothing.txt
  --motion motion.txt >> motion.txt
  --motion folder/ >> folder
  --motion no_frames.txt >> no_frames.txt >> Frames
  --motion one_frame.txt >> one_frame.txt >> 1 frames
  --motion short_rows.txt >> short_rows.txt >> row 0 has 2 numbers
  --motion loop.txt >> loop.txt >> often
  --motion words.txt >> words.txt
jobs.deepmimic --save_dir run --dry_run
  --motion motion.txt >> motion.txt
  --motion latin.txt >> latin.txt
"""


@pytest.mark.parametrize("case", [*cases(SETTINGS), *cases(FOLDERS), *cases(TEXT), *cases(CHECKPOINTS)], ids=str)
def test_a_wrong_file_is_one_clear_error(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_refusal(case, tmp_path, monkeypatch, capsys)
