"""Policy losses of GRPO, one pure function in a file each; `learners.grpo.settings.POLICY_LOSSES` names them."""
