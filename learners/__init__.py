"""Training algorithms: GRPO, TRPO, behaviour cloning, and supervised training of diffusion policies and of TMR."""
