"""The vocabulary: what travels between callers, states and events, validated.

`from countersign import models as m` gives all of it. What only the HTTP API shows is in
`countersign/api/models.py`: no other function pays for it.
"""

from countersign.models.base import *
from countersign.models.outcome import *
from countersign.models.request import *
from countersign.models.states import *
