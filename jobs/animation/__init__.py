"""Films of sentences: the stages of one scene, and many scenes on actors."""
