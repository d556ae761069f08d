"""The base of every configuration model, and what a model's options are called.

Each layer declares its options in a `settings.py` of its own as small groups of fields. The configuration of a job is
a model whose fields are such groups (`config.policy`, `config.run`), nested as deep as is useful; a function of a
layer takes the group that it needs. `options_of` lists the options of a model, wherever they are nested; `Settings.of`
and `Settings.flat` read and write options by flat names. These modules import neither torch nor ray. Their names are
imported from here.
"""

from motions.settings.given_values import LISTS as LISTS
from motions.settings.growth import grown as grown
from motions.settings.growth import naming_options as naming_options
from motions.settings.marks import Affects as Affects
from motions.settings.marks import Effect as Effect
from motions.settings.marks import KeptOnResume as KeptOnResume
from motions.settings.marks import Retired as Retired
from motions.settings.model import BUILTIN as BUILTIN
from motions.settings.model import Settings as Settings
from motions.settings.model import SettingsT as SettingsT
from motions.settings.model import redeclared as redeclared
from motions.settings.options import Option as Option
from motions.settings.options import OptionGroup as OptionGroup
from motions.settings.options import flat_values as flat_values
from motions.settings.options import groups_of as groups_of
from motions.settings.options import nested_values as nested_values
from motions.settings.options import options_of as options_of
from motions.settings.options import retired_options as retired_options
from motions.settings.options import spelled_options as spelled_options
from motions.settings.options import spellings_of as spellings_of
from motions.settings.resuming import changeable_options as changeable_options
from motions.settings.resuming import kept_values as kept_values
