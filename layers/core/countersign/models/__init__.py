"""The vocabulary: what travels between callers, states, events and the API, validated.

`from countersign import models as m` gives all of it.
"""

from countersign.models.api import *
from countersign.models.base import *
from countersign.models.outcome import *
from countersign.models.request import *
from countersign.models.states import *
