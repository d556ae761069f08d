"""How motion is judged: text-motion retrieval (TMR), physics, tracking by a simulated humanoid, and evaluation.

A scorer judges groups of motions and returns named terms; the terms of all scorers are mixed into one total. The names
below are this layer's public interface: what your own reward imports, as in `from rewards import RewardTerms`.
"""

from typing import TYPE_CHECKING

from motions.base.public_names import lazy_names

if TYPE_CHECKING:
    from rewards.declared.declaration import RewardDeclaration as RewardDeclaration
    from rewards.declared.declaration import Term as Term
    from rewards.functions import RewardFunction as RewardFunction
    from rewards.functions import TMRCosineSimilarityReward as TMRCosineSimilarityReward
    from rewards.functions import TMRMatchingScoreReward as TMRMatchingScoreReward
    from rewards.functions import create_mdm_reward_function as create_mdm_reward_function
    from rewards.functions import create_tmr_reward_function as create_tmr_reward_function
    from rewards.messages import RewardError as RewardError
    from rewards.messages import RewardTerms as RewardTerms
    from rewards.mixing import MixedRewards as MixedRewards
    from rewards.mixing import combine as combine
    from rewards.scorers import Scorer as Scorer
    from rewards.scorers import build_scorers as build_scorers
    from rewards.settings import RewardSettings as RewardSettings
    from rewards.tmr.checkpoints import load_tmr as load_tmr
    from rewards.tmr.checkpoints import save_tmr as save_tmr
    from rewards.tmr.network import TMR as TMR
    from rewards.tmr.scorer import Embedder as Embedder
    from rewards.tmr.scorer import load_embedder as load_embedder
else:
    __getattr__ = lazy_names(__name__)
